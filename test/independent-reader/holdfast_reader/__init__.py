"""A second reader of Holdfast repositories, written from shared/repository/FORMAT.md alone."""
