"""The shop of the replay: a made-up seller, its customers and their orders, and its REST API."""
