"""How float32 rows become numbers of few bits."""
