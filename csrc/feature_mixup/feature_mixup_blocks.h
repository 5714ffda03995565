// Block-level kernels of feature_mixup.
#pragma once

#include "common/blocks.h"
#include "common/index.h"

namespace dfops::mixup {

// Block index = slice * rows + row; a thread takes one pack of its row, whose length is a multiple of kPack.
template <class scalar_t, int kPack>
struct ForwardBody {
  scalar_t* out;
  const scalar_t* x;
  const int64_t* index;
  const acc_type<scalar_t>* lam;
  int64_t rows, row;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const int64_t own = block.index() % rows, slice = block.index() / rows;
    block.each([&](int thread) {
      const int64_t at = (slice * block.threads() + thread) * kPack;
      if (at >= row) return;
      const acc_t share = lam[own];
      auto value = load_pack<acc_t, scalar_t, kPack>(x + own * row + at);
      const auto other = load_pack<acc_t, scalar_t, kPack>(x + row_index(index[own], rows) * row + at);
      for (int k = 0; k < kPack; ++k) value.values[k] = share * value.values[k] + (1 - share) * other.values[k];
      store_pack<scalar_t, acc_t, kPack>(out + own * row + at, value);
    });
  }
};

// grad_x may be null, else the block looks through all of index for the rows that blend its own one in; partial
// (slices, rows), each slice's share of the gradient of lam, may be null.
template <class scalar_t, int kPack>
struct BackwardBody {
  scalar_t* grad_x;
  acc_type<scalar_t>* partial;
  const scalar_t *grad, *x;
  const int64_t* index;
  const acc_type<scalar_t>* lam;
  int64_t rows, row;

  static int64_t shared_bytes(int threads) { return in_units_of_16(threads, sizeof(int)); }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<acc_t, kPack>;
    const int64_t own = block.index() % rows, slice = block.index() / rows;
    const int threads = block.threads();
    int* found = block.template shared<int>(threads);  // rows of this round, less its first
    auto value = block.template local<pack_t>();
    auto share = block.template local<acc_t>();
    auto rank = block.template local<int>();
    const auto begin = [&](int thread) { return (slice * threads + thread) * kPack; };
    const auto reads_own = [&](int64_t i) { return i < rows && row_index(index[i], rows) == own; };
    block.each([&](int thread) {
      share[thread] = 0;
      const int64_t at = begin(thread);
      if (at >= row) return;
      value[thread] = load_pack<acc_t, scalar_t, kPack>(grad + own * row + at);
      if (partial != nullptr) {
        const auto mine = load_pack<acc_t, scalar_t, kPack>(x + own * row + at);
        const auto other = load_pack<acc_t, scalar_t, kPack>(x + row_index(index[own], rows) * row + at);
        for (int k = 0; k < kPack; ++k) share[thread] += value[thread].values[k] * (mine.values[k] - other.values[k]);
      }
      for (int k = 0; k < kPack; ++k) value[thread].values[k] *= lam[own];
    });
    for (int64_t first = 0; first < rows && grad_x != nullptr; first += threads) {
      block.each([&](int thread) { rank[thread] = reads_own(first + thread); });
      const int count = block.scan(rank);
      block.each([&](int thread) {
        if (reads_own(first + thread)) found[rank[thread]] = thread;
      });
      block.each([&](int thread) {
        const int64_t at = begin(thread);
        if (at >= row) return;
        for (int s = 0; s < count; ++s) {
          const int64_t source = first + found[s];
          const acc_t weight = 1 - lam[source];
          const auto g = load_pack<acc_t, scalar_t, kPack>(grad + source * row + at);
          for (int k = 0; k < kPack; ++k) value[thread].values[k] += weight * g.values[k];
        }
      });
    }
    block.each([&](int thread) {
      if (grad_x != nullptr && begin(thread) < row)
        store_pack<scalar_t, acc_t, kPack>(grad_x + own * row + begin(thread), value[thread]);
    });
    if (partial == nullptr) return;
    const acc_t total = block.sum(share);
    block.each([&](int thread) {
      if (thread == 0) partial[slice * rows + own] = total;
    });
  }
};

}  // namespace dfops::mixup
