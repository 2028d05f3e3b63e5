"""Pictures with their truth: boxes, masks and key points, out of the formats that such data is published in."""
