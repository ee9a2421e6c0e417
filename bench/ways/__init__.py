"""The ways of extracting that `bench.extract` compares, each a script of its own."""
