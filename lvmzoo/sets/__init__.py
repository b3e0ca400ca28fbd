"""Whole data sets: pictures in, numbered parquet shards out, resumable, by many workers."""
