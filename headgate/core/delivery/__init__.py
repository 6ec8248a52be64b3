"""One message for one subscriber: states, retries, strategies, breaker, dead letters and timers."""
