"""The main job on real models and real images that ship with the package.

``cases`` says which parents, recipes and data; ``story`` runs the line and tells it; ``showing`` draws the tables.
"""
