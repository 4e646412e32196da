"""Generators of the parts of Markdown pages that hold numbers or lists; scripts/readme.py puts them in their places."""
