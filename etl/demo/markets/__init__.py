"""The stock market of the replay: made-up prices of real tickers, and Yahoo's chart API."""
