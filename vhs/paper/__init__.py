"""The paper's tables, from run folders; what their runs cost before they are made."""

FORMATS = ("txt", "md", "tex", "csv")
"""What a table is written as."""
