// What block-level kernels of several operators share.
#pragma once

#include "common/portable.h"

namespace dfops {

// What every architecture from sm_75 on grants a block, 64 KiB, less room for the arrays of its reductions. One number
// for all of them, so that sums have one order on any device.
constexpr int64_t kMostSharedBytes = 62 * 1024;

// What an array of `values` of `bytes` each takes of shared memory.
inline int64_t in_units_of_16(int64_t values, int64_t bytes) { return (values * bytes + 15) / 16 * 16; }

// One load or store of kPack values, which begin at a multiple of their size.
template <class acc_t, class scalar_t, int kPack>
DFOPS_HD Pack<acc_t, kPack> load_pack(const scalar_t* from) {
  const auto pack = *reinterpret_cast<const Pack<scalar_t, kPack>*>(from);
  Pack<acc_t, kPack> wide;
  for (int k = 0; k < kPack; ++k) wide.values[k] = acc_t(pack.values[k]);
  return wide;
}

template <class scalar_t, class acc_t, int kPack>
DFOPS_HD void store_pack(scalar_t* to, const Pack<acc_t, kPack>& wide) {
  Pack<scalar_t, kPack> pack;
  for (int k = 0; k < kPack; ++k) pack.values[k] = scalar_t(wide.values[k]);
  *reinterpret_cast<Pack<scalar_t, kPack>*>(to) = pack;
}

// total[i] = sum over the slices of partial[slice][i]
template <class scalar_t>
struct TotalBody {
  scalar_t* total;
  const acc_type<scalar_t>* partial;
  int64_t slices, numel;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    block.each([&](int thread) {
      for (int64_t i = block.index() * block.threads() + thread; i < numel; i += block.count() * block.threads()) {
        acc_type<scalar_t> sum = 0;
        for (int64_t slice = 0; slice < slices; ++slice) sum += partial[slice * numel + i];
        total[i] = scalar_t(sum);
      }
    });
  }
};

}  // namespace dfops
