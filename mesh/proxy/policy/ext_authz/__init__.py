"""External authorization: asking a service whether a request may go on. Imported only when a chain has the filter."""
