"""Where a cluster's hosts come from where nobody tells them: DNS, or where the client wanted to go."""
