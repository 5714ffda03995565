// Rotation of a map about its centre, bilinear, zeros outside: what an output position reads, and, for gradients, which
// output positions read an input pixel. Coordinates are normalised, so a map that is not square is stretched as well.
#pragma once

#include "common/portable.h"

namespace dfops {

template <class acc_t>
struct Rotation {
  acc_t cosine, sine;
  int64_t height, width;

  DFOPS_HD Rotation(acc_t angle, int64_t h, int64_t w) : cosine(cos(angle)), sine(sin(angle)), height(h), width(w) {}

  // In pixels, (0, 0) is the centre of the first one.
  struct Point {
    acc_t row, col;
  };

  // Where output position (row, col) reads: its normalised coordinates turned by the angle.
  DFOPS_HD Point source(int64_t row, int64_t col) const {
    const acc_t x = normalised(col, width), y = normalised(row, height);
    return {in_pixels(x * sine + y * cosine, height), in_pixels(x * cosine - y * sine, width)};
  }

  // Calls f(k, offset, by_row, by_col) for those of the four pixels around a point that lie in the map; the weight of
  // a pixel is by_row * by_col, and k is 2 * (is it the lower row) + (is it the right column).
  template <class F>
  DFOPS_HD void around(Point at, const F& f) const {
    const bool inside = at.row > -1 && acc_t(height) > at.row && at.col > -1 && acc_t(width) > at.col;
    if (!inside) return;  // nor is NaN
    const acc_t top = floor(at.row), left = floor(at.col);
    const acc_t down = at.row - top, right = at.col - left;
    for (int k = 0; k < 4; ++k) {
      const int64_t r = int64_t(top) + k / 2, c = int64_t(left) + k % 2;
      if (r < 0 || r >= height || c < 0 || c >= width) continue;
      f(k, r * width + c, k / 2 ? down : 1 - down, k % 2 ? right : 1 - right);
    }
  }

  // Calls f(offset, weight) for every output position that reads input pixel (row, col), in row order. Their sources
  // lie less than 1 away in both directions, so they lie in a box around the pixel turned back.
  template <class F>
  DFOPS_HD void readers(int64_t row, int64_t col, const F& f) const {
    const acc_t x = normalised(col, width), y = normalised(row, height);
    const acc_t mid_row = in_pixels(y * cosine - x * sine, height), mid_col = in_pixels(x * cosine + y * sine, width);
    const acc_t c = fabs(cosine), s = fabs(sine);
    const acc_t rows = c + s * acc_t(height) / acc_t(width), cols = c + s * acc_t(width) / acc_t(height);
    // fmax and fmin pass over NaN: the box is then the whole map, and no position passes the test below
    const int64_t first_row = int64_t(fmax(acc_t(0), floor(mid_row - rows))),
                  last_row = int64_t(fmin(acc_t(height - 1), ceil(mid_row + rows))),
                  first_col = int64_t(fmax(acc_t(0), floor(mid_col - cols))),
                  last_col = int64_t(fmin(acc_t(width - 1), ceil(mid_col + cols)));
    for (int64_t r = first_row; r <= last_row; ++r)
      for (int64_t q = first_col; q <= last_col; ++q) {
        const Point at = source(r, q);
        const acc_t down = fabs(at.row - acc_t(row)), right = fabs(at.col - acc_t(col));
        if (down < 1 && right < 1) f(r * width + q, (1 - down) * (1 - right));
      }
  }

 private:
  static DFOPS_HD acc_t normalised(int64_t i, int64_t n) { return acc_t(2 * i + 1) / acc_t(n) - 1; }
  static DFOPS_HD acc_t in_pixels(acc_t x, int64_t n) { return ((x + 1) * acc_t(n) - 1) / 2; }
};

}  // namespace dfops
