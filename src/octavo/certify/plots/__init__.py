"""The report's figures as hand-made inline SVG: one file a kind, and what they are drawn with."""
