"""Results as a notebook shows them: compact HTML with figures, and the terminal's report where there is no HTML."""
