"""The paper's tables, from run folders; what their runs cost before they are made."""
