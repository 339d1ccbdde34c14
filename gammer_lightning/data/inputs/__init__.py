"""What a network is shown of a clip, computed once and kept in the cache."""
