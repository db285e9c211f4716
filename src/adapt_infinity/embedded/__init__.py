"""The embedded stream and the embedded model: everything a real round needs, from nothing but this package."""
