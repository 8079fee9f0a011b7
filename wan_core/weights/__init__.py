"""Files to tensors: layouts, key maps, checks."""
