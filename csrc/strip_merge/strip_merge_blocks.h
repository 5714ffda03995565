// Block-level kernels. A block handles tiles: a piece of one row of positions over the whole length, or whole rows
// where they are short.
#pragma once

#include "strip_merge/strip_merge.h"

namespace dfops::merge {

struct Tiles {
  int64_t rows, width, per_row, count;

  Tiles(const Strips& s, int64_t elements) {
    const int64_t fitting = elements / (s.length + 1) / 128 * 128, positions = fitting > 128 ? fitting : 128;
    width = min64(s.inner, positions);
    rows = width < s.inner ? 1 : min64(s.outer, ceil_div(elements, width * (s.length + 1)));
    per_row = ceil_div(s.inner, width);
    count = ceil_div(s.outer, rows) * per_row;
  }

  // Calls f(outer, row, i) for the thread's share of an array of n rows in one tile, in steps of kPack positions.
  template <int kPack, class F>
  DFOPS_HD void each(const Strips& s, int64_t tile, int64_t n, int thread, int threads, const F& f) const {
    const int64_t first_row = quotient(tile, per_row) * rows, first = tile % per_row * width;
    const int64_t packs = min64(width, s.inner - first) / kPack, count = min64(rows, s.outer - first_row) * n * packs;
    for (int64_t e = thread; e < count; e += threads) {
      const int64_t line = quotient(e, packs), outer = quotient(line, n);
      f(first_row + outer, line - outer * n, first + (e - line * packs) * kPack);
    }
  }
};

// inner is a multiple of kPack.
template <class scalar_t, int kPack>
struct ForwardBody {
  scalar_t* out;
  Parts<const scalar_t> parts;
  Strips strips;
  Tiles tiles;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    const int64_t size = strips.length, inner = strips.inner;
    block.each([&](int thread) {
      for (int64_t tile = block.index(); tile < tiles.count; tile += block.count())
        tiles.each<kPack>(strips, tile, size, thread, block.threads(), [&](int64_t outer, int64_t row, int64_t i) {
          acc_t sum[kPack] = {};
          for (int p = 0; p < parts.count; ++p) {
            const int64_t length = parts.part[p].length, source = outer * length + quotient(row * length, size);
            const pack_t value = *reinterpret_cast<const pack_t*>(parts.part[p].data + source * inner + i);
            for (int k = 0; k < kPack; ++k) sum[k] += acc_t(value.values[k]);
          }
          pack_t mean;
          for (int k = 0; k < kPack; ++k) mean.values[k] = scalar_t(sum[k] / acc_t(parts.count));
          *reinterpret_cast<pack_t*>(out + (outer * size + row) * inner + i) = mean;
        });
    });
  }
};

// A thread adds the rows that read one position of one part; the tile of the gradient stays in cache for all parts.
template <class scalar_t, int kPack>
struct BackwardBody {
  Parts<scalar_t> grads;
  const scalar_t* grad;
  Strips strips;
  Tiles tiles;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<scalar_t, kPack>;
    const int64_t size = strips.length, inner = strips.inner;
    block.each([&](int thread) {
      for (int64_t tile = block.index(); tile < tiles.count; tile += block.count())
        for (int p = 0; p < grads.count; ++p) {
          const int64_t length = grads.part[p].length;
          tiles.each<kPack>(strips, tile, length, thread, block.threads(), [&](int64_t outer, int64_t j, int64_t i) {
            acc_t sum[kPack] = {};
            const int64_t until = first_reader(j + 1, length, size);
            for (int64_t row = first_reader(j, length, size); row < until; ++row) {
              const pack_t value = *reinterpret_cast<const pack_t*>(grad + (outer * size + row) * inner + i);
              for (int k = 0; k < kPack; ++k) sum[k] += acc_t(value.values[k]);
            }
            pack_t mean;
            for (int k = 0; k < kPack; ++k) mean.values[k] = scalar_t(sum[k] / acc_t(grads.count));
            *reinterpret_cast<pack_t*>(grads.part[p].data + (outer * length + j) * inner + i) = mean;
          });
        }
    });
  }
};

}  // namespace dfops::merge
