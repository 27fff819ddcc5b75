"""What the project's pages share: theme, elements, and how a trajectory is drawn.

Scripts are ES modules and styles are plain files beside them; :mod:`router_r1.web.page` writes
them into one HTML file that loads nothing.
"""
