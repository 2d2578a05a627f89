"""From 68 landmarks to ten base regions to one mask per attribute.

Conventions, used everywhere in this project:

* Image coordinates are continuous: x to the right, y down, ``(0, 0)`` is the top-left corner of
  the top-left pixel. Pixel ``(row r, col c)`` covers ``[c, c+1) x [r, r+1)``; its center is
  ``(c + 0.5, r + 0.5)``.
* Landmarks are arrays of shape ``(68, 2)``, dtype float32, columns x and y, in pixels of the
  source image, in iBUG's order counted from 0.
* Arrays of pixels are indexed ``(rows, cols)``.
* A pixel belongs to a polygon when its center is inside it.
* Left and right mean the left and right of the image. Each region joins both sides of the
  face, so a mirrored image has mirrored masks.
"""
