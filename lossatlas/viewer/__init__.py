"""One HTML file that shows surfaces and lets optimizers descend on them, without a network.

write_page("compare.html", [Shown(surface, "with shortcuts"), Shown(other, "without")])
"""

from lossatlas.viewer.content import Shown
from lossatlas.viewer.document import page_of, write_page
from lossatlas.viewer.gallery import GalleryPage, write_gallery
from lossatlas.viewer.notebook import Page

__all__ = ["GalleryPage", "Page", "Shown", "page_of", "write_gallery", "write_page"]
