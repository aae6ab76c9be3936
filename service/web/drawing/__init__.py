"""Charts and reports, drawn in processes of their own: what draws needs much memory and may crash,
hang or be killed, and then takes one request with it instead of the API.
"""
