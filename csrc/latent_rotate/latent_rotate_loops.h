// The loops of the CPU: each map has one gather for all of its channels.
#pragma once

#include <vector>

#include "common/gather.h"
#include "latent_rotate/latent_rotate.h"

namespace dfops::rotate {

template <class acc_t>
void collect(Gather<acc_t>& gather, const Sampler<acc_t>& sampler, What what) {
  gather.collect(sampler.rotation.height, sampler.rotation.width, [&](int64_t row, int64_t col, const auto& add) {
    sampler.taps(row, col, [&](int64_t offset, acc_t weight, acc_t slope) {
      add(offset, what == What::kSlopes ? slope : weight);
    });
  });
  if (what == What::kReaders) gather.transpose();
}

// Units of work: a group of channels of one map. They depend on the sizes alone.
inline int64_t groups(const Maps& maps) { return ceil_div(maps.channels, kLanes); }

// Units [begin, end) of out, taken from `in` as `what` (not kSlopes) says.
template <class scalar_t>
void apply_range(scalar_t* out, const scalar_t* in, const acc_type<scalar_t>* angle, const Maps& maps, Mode mode,
                 Padding padding, What what, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  Gather<acc_t> gather;
  const int64_t per_map = groups(maps);
  for (int64_t unit = begin; unit < end;) {
    const int64_t map = unit / per_map, until = min64(end, (map + 1) * per_map);
    collect(gather, Sampler<acc_t>(maps, angle[map], mode, padding), what);
    const int64_t first = (unit - map * per_map) * kLanes;
    const int64_t channels = min64(maps.channels, (until - map * per_map) * kLanes) - first;
    const int64_t at = map * maps.size() + first * maps.channel_step();
    if (maps.channels_last)
      gather_positions(out + at, maps.channels, in + at, maps.channels, channels, gather, 0, maps.positions());
    else
      gather_planes(out + at, in + at, channels, gather);
    unit = until;
  }
}

// partial[unit] of units [begin, end): their shares of the gradient for the angle of their map.
template <class scalar_t>
DFOPS_CLONES void slope_range(acc_type<scalar_t>* partial, const scalar_t* grad, const scalar_t* x,
                              const acc_type<scalar_t>* angle, const Maps& maps, Mode mode, Padding padding,
                              int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  Gather<acc_t> gather;
  const int64_t per_map = groups(maps), positions = maps.positions();
  std::vector<acc_t> lanes(maps.channels_last ? 0 : positions * kLanes);
  acc_t sums[kLanes], grads[kLanes * kRun];
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t map = unit / per_map, c = unit % per_map * kLanes;
    const int64_t last = min64(maps.channels, c + kLanes);
    if (unit == begin || unit % per_map == 0)
      collect(gather, Sampler<acc_t>(maps, angle[map], mode, padding), What::kSlopes);
    acc_t shares[kLanes] = {};
    if (maps.channels_last) {
      const scalar_t *values = x + map * maps.size(), *g = grad + map * maps.size();
      for (int64_t i = 0; i < positions; ++i) {
        int64_t k = c;
        for (; k + kLanes <= last; k += kLanes) {
          gather.template combine<kLanes>(sums, values + k, maps.channels, i);
          for (int l = 0; l < kLanes; ++l) shares[l] += sums[l] * acc_t(g[i * maps.channels + k + l]);
        }
        for (; k < last; ++k) {
          gather.template combine<1>(sums, values + k, maps.channels, i);
          shares[0] += sums[0] * acc_t(g[i * maps.channels + k]);
        }
      }
    } else {
      const int64_t at = map * maps.size() + c * positions;
      for (int64_t first = 0; first < positions; first += kRun)
        to_lanes(lanes.data() + first * kLanes, x + at + first, positions, last - c, min64(kRun, positions - first));
      for (int64_t first = 0; first < positions; first += kRun) {
        const int64_t n = min64(kRun, positions - first);
        to_lanes(grads, grad + at + first, positions, last - c, n);
        for (int64_t i = 0; i < n; ++i) {
          gather.template combine<kLanes>(sums, lanes.data(), kLanes, first + i);
          for (int l = 0; l < kLanes; ++l) shares[l] += sums[l] * grads[i * kLanes + l];
        }
      }
    }
    partial[unit] = 0;
    for (const acc_t share : shares) partial[unit] += share;
  }
}

}  // namespace dfops::rotate
