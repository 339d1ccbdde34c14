"""Reports: tables, pages and images for people."""
