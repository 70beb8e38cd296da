"""Training: the objectives, and one loop for fine-tuning and for distillation. Needs torch."""
