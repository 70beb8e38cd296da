"""What each task knows and serving needs: row format, labels, decoding, metric. No torch."""
