"""A ladder of sizes: each rung is trained, measured and judged before the next is begun."""
