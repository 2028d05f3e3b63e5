"""How well answers fit the truth, on arrays: average precision, mean IoU, key point similarity; and how sure it is."""
