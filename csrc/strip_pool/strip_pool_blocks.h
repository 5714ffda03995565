// Block-level kernels of strip_pool. A block copies a tile, neighbouring positions over the whole length, to shared
// memory and computes everything that depends on it there; sequences too long for that take the direct kernels below.
#pragma once

#include "common/blocks.h"
#include "common/portable.h"
#include "common/strip.h"

namespace dfops::strip {

constexpr int kMostScales = 16, kMostOutputs = 64;

// Passed to kernels by value. A tile is `groups` x `lanes` positions of one channel (rows of a run, pieces of it), or
// `lanes` channels of `groups` neighbouring pixels where channels vary fastest. The blocks of one channel group share
// its tiles, so that sums for the weight stay in a block.
struct Plan {
  Strips strips;
  int64_t directions, scales, taps;
  bool weighted;
  int64_t scale[kMostScales], rows[kMostScales];
  int64_t all_rows, mean_rows;  // sums of rows[]; of those at scales other than 1, whose means need room
  int64_t lanes, groups, lane_tiles, channel_groups, tiles;

  DFOPS_HD int64_t outputs() const { return directions * scales; }
  DFOPS_HD int64_t weight_lanes() const { return strips.channels_fastest() ? lanes : 1; }
  DFOPS_HD int64_t weights() const { return outputs() * taps * weight_lanes(); }
  DFOPS_HD int64_t shares() const { return outputs() * taps * lanes; }
  // Neighbours along the lanes are neighbours in memory and begin at multiples of `pack`.
  bool packs(int pack) const {
    return strips.inner % pack == 0 && lanes % pack == 0 &&
           (strips.channels_fastest() ? strips.channels : strips.run) % pack == 0;
  }
};

inline int64_t forward_shared_bytes(const Plan& p, int64_t bytes) {
  const int64_t positions = p.lanes * p.groups;
  return in_units_of_16(positions * p.strips.length, bytes) +
         (p.weighted ? in_units_of_16(positions * p.mean_rows, bytes) + in_units_of_16(p.weights(), bytes) : 0);
}

inline int64_t backward_shared_bytes(const Plan& p, int64_t bytes) {
  const int64_t positions = p.lanes * p.groups;
  return in_units_of_16(positions * p.all_rows * p.directions, bytes) +
         (p.weighted
              ? in_units_of_16(positions * p.strips.length, bytes) + in_units_of_16(positions * p.mean_rows, bytes) +
                    in_units_of_16(positions * p.all_rows, bytes) + in_units_of_16(p.weights(), bytes) +
                    in_units_of_16(p.shares(), bytes)
              : 0);
}

// Tiles of at most `positions` positions.
inline Plan make_plan(const Strips& strips, int64_t directions, int64_t scales, int64_t taps, const int64_t* scale,
                      bool weighted, int64_t positions) {
  Plan p{strips, directions, scales, taps, weighted, {}, {}, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t s = 0; s < scales; ++s) {
    // any scale beyond the length gives no rows; kernels keep it in 32 bits
    p.scale[s] = min64(scale[s], strips.length + 1);
    p.rows[s] = strips.length / scale[s];
    p.all_rows += p.rows[s];
    p.mean_rows += scale[s] == 1 ? 0 : p.rows[s];
  }
  const int64_t pixels = strips.positions() / (strips.run * strips.channels);
  const int64_t along = strips.channels_fastest() ? strips.channels : strips.run;
  p.lanes = min64(along, strips.channels_fastest() ? min64(positions, 64) : positions);
  p.groups = min64(pixels, positions / p.lanes);
  p.lane_tiles = strips.channels_fastest() ? 1 : ceil_div(strips.run, p.lanes);
  p.channel_groups = strips.channels_fastest() ? ceil_div(strips.channels, p.lanes) : strips.channels;
  p.tiles = ceil_div(pixels, p.groups) * p.lane_tiles;
  return p;
}

struct Tile {
  int64_t channel, first_group, first_lane;
  int groups, lanes;
  bool along;  // rows of one position are neighbours in memory

  DFOPS_HD Tile(const Plan& p, int64_t channel_group, int64_t index) {
    const Strips& s = p.strips;
    const int64_t pixels = s.positions() / (s.run * s.channels);
    first_group = index / p.lane_tiles * p.groups;
    groups = int(min64(p.groups, pixels - first_group));
    if (s.channels_fastest()) {
      channel = first_lane = channel_group * p.lanes;
      lanes = int(min64(p.lanes, s.channels - first_lane));
    } else {
      channel = channel_group;
      first_lane = index % p.lane_tiles * p.lanes;
      lanes = int(min64(p.lanes, s.run - first_lane));
    }
    along = s.inner == 1;
  }

  // Where an array of n rows keeps an element of the tile in shared memory; the next row is row_step() further.
  DFOPS_HD int at(int group, int lane, int row, int n) const {
    return group * lanes * n + (along ? lane * n + row : row * lanes + lane);
  }
  DFOPS_HD int row_step() const { return along ? 1 : lanes; }

  // Calls f(place, group, lane, row, offset) for the thread's share of the tile's elements in an array of n rows, in
  // steps of kPack lanes, in the order of memory: `place` in shared memory, `offset` in global memory.
  template <int kPack, class F>
  DFOPS_HD void each(const Plan& p, int n, int thread, int threads, const F& f) const {
    const Strips& s = p.strips;
    const int per_group = lanes * n, count = groups * per_group / kPack;
    for (int e = thread; e < count; e += threads) {
      const int place = e * kPack, group = groups == 1 ? 0 : place / per_group, rest = place - group * per_group;
      const int minor = along ? n : lanes, major = rest / minor, least = rest - major * minor;
      const int lane = along ? major : least, row = along ? least : major;
      const int64_t position = s.channels_fastest()
                                   ? (first_group + group) * s.channels + first_lane
                                   : ((first_group + group) * s.channels + channel) * s.run + first_lane;
      const int64_t outer = along ? position : quotient(position, s.inner);
      f(place, group, lane, row,
        along ? (outer + lane) * n + row : (outer * n + row) * s.inner + (position - outer * s.inner) + lane);
    }
  }
};

// The mean of `scale` rows of a tile in shared memory.
template <class acc_t, int kPack>
DFOPS_HD Pack<acc_t, kPack> mean_pack(const acc_t* first, int step, int scale) {
  Pack<acc_t, kPack> mean = load_pack<acc_t, acc_t, kPack>(first);
  for (int k = 1; k < scale; ++k) {
    const auto next = load_pack<acc_t, acc_t, kPack>(first + k * step);
    for (int i = 0; i < kPack; ++i) mean.values[i] += next.values[i];
  }
  for (int i = 0; i < kPack; ++i) mean.values[i] /= acc_t(scale);
  return mean;
}

// sum += sum_m weight[m] * in[row + m - M / 2], taps reversed if kFlip; `weight` is that of the first lane of the pack.
template <bool kFlip, class acc_t, int kPack>
DFOPS_HD void add_filtered(Pack<acc_t, kPack>& sum, const Plan& p, const Tile& t, const acc_t* weight, const acc_t* in,
                           int group, int lane, int row, int n) {
  const int taps = int(p.taps), half = taps / 2, stride = int(p.weight_lanes()), step = t.row_step();
  const int first = half > row ? half - row : 0, last = n - row + half < taps ? n - row + half : taps;
  const acc_t* from = in + t.at(group, lane, row, n);
  for (int m = first; m < last; ++m) {
    const auto value = load_pack<acc_t, acc_t, kPack>(from + (m - half) * step);
    const acc_t* w = weight + (kFlip ? taps - 1 - m : m) * stride;
    for (int i = 0; i < kPack; ++i) sum.values[i] += w[stride == 1 ? 0 : i] * value.values[i];
  }
}

// The weight (D, S, C, M) of a tile's channels as (D, S, M, lanes or 1).
template <class acc_t, class scalar_t>
DFOPS_HD void load_weight(acc_t* to, const scalar_t* weight, const Plan& p, const Tile& t, int thread, int threads) {
  const int lanes = int(p.weight_lanes()), count = int(p.weights());
  for (int e = thread; e < count; e += threads) {
    const int lane = e % lanes, m = e / lanes % int(p.taps), ds = e / lanes / int(p.taps);
    if (t.channel + lane < p.strips.channels)
      to[e] = acc_t(weight[(ds * p.strips.channels + t.channel + lane) * p.taps + m]);
  }
}

template <class scalar_t, int kPack>
struct ForwardBody {
  scalar_t* out[kMostOutputs];
  const scalar_t *x, *weight;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const int64_t channel_group = block.index() % plan.channel_groups, slice = block.index() / plan.channel_groups,
                  slices = block.count() / plan.channel_groups;
    const int64_t positions = plan.lanes * plan.groups;
    const int length = int(plan.strips.length), threads = block.threads();
    acc_t* xs = block.template shared<acc_t>(positions * length);
    acc_t *means = nullptr, *w = nullptr;
    if (plan.weighted) {
      means = block.template shared<acc_t>(positions * plan.mean_rows);
      w = block.template shared<acc_t>(plan.weights());
    }
    for (int64_t index = slice; index < plan.tiles; index += slices) {
      const Tile tile(plan, channel_group, index);
      block.each([&](int thread) {
        if (index == slice && plan.weighted) load_weight(w, weight, plan, tile, thread, threads);
        tile.template each<kPack>(plan, length, thread, threads, [&](int place, int, int, int, int64_t offset) {
          *reinterpret_cast<Pack<acc_t, kPack>*>(xs + place) = load_pack<acc_t, scalar_t, kPack>(x + offset);
        });
      });
      block.each([&](int thread) {
        acc_t* to = means;
        for (int64_t s = 0; s < plan.scales; ++s) {
          const int rows = int(plan.rows[s]), scale = int(plan.scale[s]);
          if (plan.weighted && scale == 1) continue;
          tile.template each<kPack>(plan, rows, thread, threads, [&](int place, int g, int lane, int row, int64_t at) {
            const auto mean =
                mean_pack<acc_t, kPack>(xs + tile.at(g, lane, row * scale, length), tile.row_step(), scale);
            if (plan.weighted)
              *reinterpret_cast<Pack<acc_t, kPack>*>(to + place) = mean;
            else
              store_pack<scalar_t, acc_t, kPack>(out[s] + at, mean);
          });
          if (plan.weighted) to += positions * rows;
        }
      });
      if (!plan.weighted) continue;
      block.each([&](int thread) {
        const acc_t* from = means;
        for (int64_t s = 0; s < plan.scales; ++s) {
          const int rows = int(plan.rows[s]);
          const acc_t* in = plan.scale[s] == 1 ? xs : from;
          tile.template each<kPack>(plan, rows, thread, threads, [&](int, int g, int lane, int row, int64_t offset) {
            for (int64_t ds = s; ds < plan.outputs(); ds += plan.scales) {
              const acc_t* taps = w + ds * plan.taps * plan.weight_lanes() + (plan.weight_lanes() == 1 ? 0 : lane);
              Pack<acc_t, kPack> sum{};
              add_filtered<false>(sum, plan, tile, taps, in, g, lane, row, rows);
              store_pack<scalar_t, acc_t, kPack>(out[ds] + offset, sum);
            }
          });
          if (plan.scale[s] != 1) from += positions * rows;
        }
      });
    }
  }
};

// grad_x may be null; partial (slices, D, S, C, M), each slice's share of the weight gradient, may be null.
template <class scalar_t, int kPack>
struct BackwardBody {
  const scalar_t* grad[kMostOutputs];
  scalar_t* grad_x;
  acc_type<scalar_t>* partial;
  const scalar_t *x, *weight;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const int64_t channel_group = block.index() % plan.channel_groups, slice = block.index() / plan.channel_groups,
                  slices = block.count() / plan.channel_groups;
    const int64_t positions = plan.lanes * plan.groups;
    const int length = int(plan.strips.length), threads = block.threads(), taps = int(plan.taps);
    acc_t* gs = block.template shared<acc_t>(positions * plan.all_rows * plan.directions);
    acc_t *xs = nullptr, *means = nullptr, *through = nullptr, *w = nullptr, *sums = nullptr;
    if (plan.weighted) {
      xs = block.template shared<acc_t>(positions * length);
      means = block.template shared<acc_t>(positions * plan.mean_rows);
      through = block.template shared<acc_t>(positions * plan.all_rows);
      w = block.template shared<acc_t>(plan.weights());
      sums = block.template shared<acc_t>(plan.shares());
    }
    if (partial != nullptr)
      block.each([&](int thread) {
        for (int e = thread; e < int(plan.shares()); e += threads) sums[e] = 0;
      });
    for (int64_t index = slice; index < plan.tiles; index += slices) {
      const Tile tile(plan, channel_group, index);
      block.each([&](int thread) {
        if (index == slice && plan.weighted) load_weight(w, weight, plan, tile, thread, threads);
        acc_t* to = gs;
        for (int64_t ds = 0; ds < plan.outputs(); ++ds) {
          const int rows = int(plan.rows[ds % plan.scales]);
          tile.template each<kPack>(plan, rows, thread, threads, [&](int place, int, int, int, int64_t offset) {
            *reinterpret_cast<Pack<acc_t, kPack>*>(to + place) = load_pack<acc_t, scalar_t, kPack>(grad[ds] + offset);
          });
          to += positions * rows;
        }
        if (partial != nullptr)
          tile.template each<kPack>(plan, length, thread, threads, [&](int place, int, int, int, int64_t offset) {
            *reinterpret_cast<Pack<acc_t, kPack>*>(xs + place) = load_pack<acc_t, scalar_t, kPack>(x + offset);
          });
      });
      if (plan.weighted)
        block.each([&](int thread) {
          acc_t *mean_to = means, *through_to = through;
          const acc_t* first_grad = gs;
          for (int64_t s = 0; s < plan.scales; ++s) {
            const int rows = int(plan.rows[s]), scale = int(plan.scale[s]);
            if (partial != nullptr && scale != 1)
              tile.template each<kPack>(plan, rows, thread, threads, [&](int place, int g, int lane, int row, int64_t) {
                *reinterpret_cast<Pack<acc_t, kPack>*>(mean_to + place) =
                    mean_pack<acc_t, kPack>(xs + tile.at(g, lane, row * scale, length), tile.row_step(), scale);
              });
            if (grad_x != nullptr)
              tile.template each<kPack>(plan, rows, thread, threads, [&](int place, int g, int lane, int row, int64_t) {
                Pack<acc_t, kPack> sum{};
                for (int64_t d = 0; d < plan.directions; ++d)
                  add_filtered<true>(
                      sum, plan, tile,
                      w + (d * plan.scales + s) * taps * plan.weight_lanes() + (plan.weight_lanes() == 1 ? 0 : lane),
                      first_grad + d * positions * plan.all_rows, g, lane, row, rows);
                *reinterpret_cast<Pack<acc_t, kPack>*>(through_to + place) = sum;
              });
            if (scale != 1) mean_to += positions * rows;
            through_to += positions * rows;
            first_grad += positions * rows;
          }
        });
      block.each([&](int thread) {
        if (grad_x != nullptr)
          tile.template each<kPack>(plan, length, thread, threads, [&](int, int g, int lane, int row, int64_t offset) {
            Pack<acc_t, kPack> sum{};
            const acc_t* from = plan.weighted ? through : gs;
            for (int64_t s = 0; s < plan.scales; ++s) {
              const int rows = int(plan.rows[s]), scale = int(plan.scale[s]), j = row / scale;
              if (j < rows) {
                const auto value = load_pack<acc_t, acc_t, kPack>(from + tile.at(g, lane, j, rows));
                for (int i = 0; i < kPack; ++i) sum.values[i] += value.values[i] / acc_t(scale);
              }
              from += positions * rows;
            }
            store_pack<scalar_t, acc_t, kPack>(grad_x + offset, sum);
          });
        if (partial != nullptr) add_shares(sums, gs, xs, means, tile, thread, threads);
      });
    }
    if (partial == nullptr) return;
    block.each([&](int thread) {
      const Tile tile(plan, channel_group, 0);
      const int64_t channels = plan.strips.channels;
      acc_t* to = partial + slice * plan.outputs() * channels * taps;
      const int lanes = int(plan.lanes), count = int(plan.outputs() * taps);
      if (plan.strips.channels_fastest()) {
        for (int e = thread; e < count * lanes; e += threads) {
          const int lane = e % lanes, m = e / lanes % taps, ds = e / lanes / taps;
          if (lane < tile.lanes) to[(ds * channels + tile.channel + lane) * taps + m] = sums[e];
        }
      } else {
        for (int e = thread; e < count; e += threads) {
          acc_t total = 0;
          for (int lane = 0; lane < lanes; ++lane) total += sums[e * lanes + lane];
          to[(e / taps * channels + tile.channel) * taps + e % taps] = total;
        }
      }
    });
  }

  // sums (D, S, M, lanes) of gradient times mean; each element belongs to one thread for all tiles.
  template <class acc_t>
  DFOPS_HD void add_shares(acc_t* sums, const acc_t* gs, const acc_t* xs, const acc_t* means, const Tile& tile,
                           int thread, int threads) const {
    const int64_t positions = plan.lanes * plan.groups;
    const int lanes = int(plan.lanes), taps = int(plan.taps), step = tile.row_step();
    for (int e = thread; e < int(plan.shares()); e += threads) {
      const int lane = e % lanes, m = e / lanes % taps, ds = e / lanes / taps, shift = m - taps / 2;
      if (lane >= tile.lanes) continue;
      const acc_t *g = gs + ds / plan.scales * positions * plan.all_rows, *p = means;
      const int64_t scale = ds % plan.scales;
      for (int64_t s = 0; s < scale; ++s) {
        g += positions * plan.rows[s];
        if (plan.scale[s] != 1) p += positions * plan.rows[s];
      }
      if (plan.scale[scale] == 1) p = xs;
      const int rows = int(plan.rows[scale]), from = shift < 0 ? -shift : 0, until = shift > 0 ? rows - shift : rows;
      acc_t sum = 0;
      for (int group = 0; group < tile.groups; ++group) {
        const int first = tile.at(group, lane, 0, rows);
        for (int row = from; row < until; ++row) sum += g[first + row * step] * p[first + (row + shift) * step];
      }
      sums[e] += sum;
    }
  }
};

// The direct kernels: one thread an element, every sum written out, nothing shared.

template <class scalar_t>
DFOPS_HD acc_type<scalar_t> mean_at(const scalar_t* x, const Strips& s, int64_t outer, int64_t i, int64_t row,
                                    int64_t scale) {
  acc_type<scalar_t> sum = 0;
  for (int64_t k = 0; k < scale; ++k) sum += acc_type<scalar_t>(x[(outer * s.length + row * scale + k) * s.inner + i]);
  return sum / acc_type<scalar_t>(scale);
}

template <class scalar_t>
struct DirectForwardBody {
  scalar_t* out[kMostOutputs];
  const scalar_t *x, *weight;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const Strips& st = plan.strips;
    block.each([&](int thread) {
      for (int64_t ds = 0; ds < plan.outputs(); ++ds) {
        const int64_t s = ds % plan.scales, rows = plan.rows[s], numel = st.positions() * rows;
        for (int64_t e = block.index() * block.threads() + thread; e < numel; e += block.count() * block.threads()) {
          const int64_t i = e % st.inner, row = e / st.inner % rows, outer = e / st.inner / rows;
          if (!plan.weighted) {
            out[ds][e] = scalar_t(mean_at(x, st, outer, i, row, plan.scale[s]));
            continue;
          }
          const scalar_t* w = weight + (ds * st.channels + st.channel(outer * st.inner + i)) * plan.taps;
          acc_t sum = 0;
          for (int64_t m = 0; m < plan.taps; ++m) {
            const int64_t source = row + m - plan.taps / 2;
            if (source >= 0 && source < rows) sum += acc_t(w[m]) * mean_at(x, st, outer, i, source, plan.scale[s]);
          }
          out[ds][e] = scalar_t(sum);
        }
      }
    });
  }
};

template <class scalar_t>
struct DirectGradXBody {
  const scalar_t* grad[kMostOutputs];
  scalar_t* grad_x;
  const scalar_t* weight;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const Strips& st = plan.strips;
    block.each([&](int thread) {
      const int64_t numel = st.positions() * st.length;
      for (int64_t e = block.index() * block.threads() + thread; e < numel; e += block.count() * block.threads()) {
        const int64_t i = e % st.inner, l = e / st.inner % st.length, outer = e / st.inner / st.length;
        acc_t sum = 0;
        for (int64_t ds = 0; ds < plan.outputs(); ++ds) {
          const int64_t s = ds % plan.scales, rows = plan.rows[s], row = l / plan.scale[s];
          if (row >= rows) continue;
          const scalar_t* g = grad[ds] + outer * rows * st.inner + i;
          if (!plan.weighted) {
            sum += acc_t(g[row * st.inner]) / acc_t(plan.scale[s]);
            continue;
          }
          const scalar_t* w = weight + (ds * st.channels + st.channel(outer * st.inner + i)) * plan.taps;
          for (int64_t m = 0; m < plan.taps; ++m) {
            const int64_t source = row - m + plan.taps / 2;
            if (source >= 0 && source < rows) sum += acc_t(w[m]) * acc_t(g[source * st.inner]) / acc_t(plan.scale[s]);
          }
        }
        grad_x[e] = scalar_t(sum);
      }
    });
  }
};

// One block for each weight.
template <class scalar_t>
struct DirectGradWeightBody {
  const scalar_t* grad[kMostOutputs];
  scalar_t* grad_weight;
  const scalar_t* x;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    const Strips& st = plan.strips;
    const int64_t numel = plan.outputs() * st.channels * plan.taps, lots = st.positions() / st.channels;
    for (int64_t index = block.index(); index < numel; index += block.count()) {
      const int64_t m = index % plan.taps, c = index / plan.taps % st.channels, ds = index / plan.taps / st.channels;
      const int64_t s = ds % plan.scales, rows = plan.rows[s];
      auto share = block.template local<acc_t>();
      block.each([&](int thread) {
        acc_t sum = 0;
        for (int64_t e = thread; e < lots * rows; e += block.threads()) {
          // the e-th element of channel c
          const int64_t lot = e % lots, row = e / lots, source = row + m - plan.taps / 2;
          const int64_t position = (lot / st.run * st.channels + c) * st.run + lot % st.run;
          const int64_t outer = position / st.inner, i = position % st.inner;
          if (source >= 0 && source < rows)
            sum +=
                acc_t(grad[ds][(outer * rows + row) * st.inner + i]) * mean_at(x, st, outer, i, source, plan.scale[s]);
        }
        share[thread] = sum;
      });
      const acc_t total = block.sum(share);
      block.each([&](int thread) {
        if (thread == 0) grad_weight[index] = scalar_t(total);
      });
    }
  }
};

}  // namespace dfops::strip
