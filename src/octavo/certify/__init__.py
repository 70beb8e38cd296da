"""Is the engine as good as the teacher, and how fast is it here? Statistics, measurement, report."""
