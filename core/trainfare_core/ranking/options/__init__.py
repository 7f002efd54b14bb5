"""Options in words: plans, assumptions, rejections and the next best."""
