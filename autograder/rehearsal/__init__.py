"""Is a lab ready? Its known answers, graded before students see it."""
