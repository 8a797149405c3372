"""How each instruction set says the words."""
