// Block-level kernels of latent_rotate. A block handles some channels of some positions of one map: it puts what the
// positions take from into shared memory once, then every thread keeps a position's entries for all of its channels.
#pragma once

#include "common/blocks.h"
#include "latent_rotate/latent_rotate.h"

namespace dfops::rotate {

// Passed to kernels by value.
struct Plan {
  Maps maps;
  int64_t tile, tiles, chunk, chunks;  // positions and channels of a block, and into how many the map is cut

  Plan(const Maps& m, int64_t positions, int64_t channels)
      : maps(m),
        tile(min64(m.positions(), positions)),
        tiles(ceil_div(m.positions(), tile)),
        chunk(min64(m.channels, channels)),
        chunks(ceil_div(m.channels, chunk)) {}

  DFOPS_HD int64_t slices() const { return tiles * chunks; }
  DFOPS_HD int64_t blocks() const { return maps.count * slices(); }
};

// A position with more entries is searched again for each pack of channels. Forward there are four at most, backward
// LSDA's angles and maps have six.
constexpr int kKept = 8;

template <class acc_t>
struct Kept {
  int64_t count, from[kKept];
  acc_t weight[kKept];
};

// Where the maps are contiguous kPack is 1 and threads side by side take neighbouring positions, else neighbouring
// packs of channels. `grad` and `partial` (slices, maps) serve kSlopes, which adds up products with grad; `out` serves
// the others.
template <class scalar_t, int kPack, What kWhat>
struct Body {
  using acc_t = acc_type<scalar_t>;
  scalar_t* out;
  acc_t* partial;
  const scalar_t *in, *grad;
  const acc_t* angle;
  Mode mode;
  Padding padding;
  Plan plan;

  static int64_t shared_bytes(const Plan& plan) { return in_units_of_16(plan.tile, sizeof(Kept<acc_t>)); }

  template <class F>
  DFOPS_HD void entries(const Sampler<acc_t>& sampler, int64_t position, const F& f) const {
    const int64_t row = position / plan.maps.width, col = position % plan.maps.width;
    if constexpr (kWhat == What::kReaders)
      sampler.readers(row, col, f);
    else
      sampler.taps(row, col, [&](int64_t offset, acc_t weight, acc_t slope) {
        f(offset, kWhat == What::kSlopes ? slope : weight);
      });
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Maps& maps = plan.maps;
    const int64_t map = block.index() % maps.count, slice = block.index() / maps.count;
    const int64_t first = slice % plan.tiles * plan.tile, positions = min64(plan.tile, maps.positions() - first);
    const int64_t first_channel = slice / plan.tiles * plan.chunk;
    const int64_t packs = min64(plan.chunk, maps.channels - first_channel) / kPack;
    const int threads = block.threads();
    auto* kept = block.template shared<Kept<acc_t>>(plan.tile);
    auto share = block.template local<acc_t>();
    block.each([&](int thread) {
      if (thread >= positions) return;
      const Sampler<acc_t> sampler(maps, angle[map], mode, padding);
      for (int64_t i = thread; i < positions; i += threads) {
        Kept<acc_t>& own = kept[i];
        own.count = 0;
        entries(sampler, first + i, [&](int64_t from, acc_t weight) {
          if (own.count < kKept) {
            own.from[own.count] = from * maps.position_step();
            own.weight[own.count] = weight;
          }
          ++own.count;
        });
      }
    });
    block.each([&](int thread) {
      const int64_t lanes = min64(maps.channels_last ? packs : positions, threads), rows = threads / lanes;
      const int64_t lane = thread % lanes, row = thread / lanes;
      acc_t sum = 0;
      for (int64_t i = maps.channels_last ? row : lane; i < positions && row < rows;
           i += maps.channels_last ? rows : lanes) {
        const Kept<acc_t> own = kept[i];
        for (int64_t p = maps.channels_last ? lane : row; p < packs; p += maps.channels_last ? lanes : rows) {
          const int64_t plane = map * maps.size() + (first_channel + p * kPack) * maps.channel_step();
          Pack<acc_t, kPack> value{};
          const auto add = [&](int64_t offset, acc_t weight) {
            const auto read = load_pack<acc_t, scalar_t, kPack>(in + plane + offset);
            for (int k = 0; k < kPack; ++k) value.values[k] += weight * read.values[k];
          };
          if (own.count > kKept) {
            const Sampler<acc_t> sampler(maps, angle[map], mode, padding);
            entries(sampler, first + i, [&](int64_t from, acc_t weight) { add(from * maps.position_step(), weight); });
          } else {
#pragma unroll
            for (int k = 0; k < kKept; ++k)
              if (k < own.count) add(own.from[k], own.weight[k]);
          }
          const int64_t at = plane + (first + i) * maps.position_step();
          if constexpr (kWhat == What::kSlopes) {
            const auto g = load_pack<acc_t, scalar_t, kPack>(grad + at);
            for (int k = 0; k < kPack; ++k) sum += g.values[k] * value.values[k];
          } else {
            store_pack<scalar_t, acc_t, kPack>(out + at, value);
          }
        }
      }
      share[thread] = sum;
    });
    if constexpr (kWhat == What::kSlopes) {
      const acc_t total = block.sum(share);
      block.each([&](int thread) {
        if (thread == 0) partial[slice * maps.count + map] = total;
      });
    }
  }
};

}  // namespace dfops::rotate
