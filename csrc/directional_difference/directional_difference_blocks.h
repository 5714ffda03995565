// Block-level kernels of directional_difference. A thread keeps its channels and walks through the frames of one place,
// so that a frame comes from memory once: what neighbours read of it, and the next step again, is in the caches.
#pragma once

#include "common/blocks.h"
#include "directional_difference/directional_difference.h"

namespace dfops::directional {

// Passed to kernels by value. `lanes` threads side by side hold neighbouring packs of channels where channels vary
// fastest, else packs lie along the rows of one channel; `groups` such threads take different places. The blocks of one
// channel group share its places, so that sums for the weight stay in a block.
struct Plan {
  Planes planes;
  int64_t taps, lanes, groups, channel_groups, places;

  Plan(const Planes& p, int64_t count, int pack, int threads) : planes(p), taps(count) {
    const int64_t packs = p.channels == 1 ? 1 : p.channels / pack;
    lanes = min64(packs, threads);
    groups = threads / lanes;
    channel_groups = p.channels == 1 ? p.planes : ceil_div(packs, lanes);
    places = p.plane() / (p.channels == 1 ? pack : p.channels);
  }

  DFOPS_HD int64_t all_channels() const { return planes.planes * planes.channels; }
  DFOPS_HD int64_t all_places() const { return planes.clips * places; }
  // The first channel of a lane; beyond the last for lanes that have none.
  DFOPS_HD int64_t channel(int64_t channel_group, int64_t lane, int pack) const {
    return planes.channels == 1 ? channel_group : (channel_group * lanes + lane) * pack;
  }

  // Calls f(offset, j) for the thread's share of the places: the first element of its pack in frame 0, and the position
  // of its row in the line.
  template <int kPack, class F>
  DFOPS_HD void each(int64_t channel, int64_t slice, int64_t slices, int64_t group, const F& f) const {
    for (int64_t i = slice * groups + group; i < all_places(); i += slices * groups) {
      const int64_t clip = quotient(i, places), place = i - clip * places;
      const int64_t element = planes.channels == 1 ? place * kPack : place * planes.channels + channel;
      const int64_t row = quotient(element, planes.inner), j = row - quotient(row, planes.length) * planes.length;
      f(clip * planes.frames * planes.frame() + (planes.channels == 1 ? channel * planes.plane() : 0) + element, j);
    }
  }
};

// Packs lie within rows and begin at multiples of `pack`.
inline bool packs(const Planes& p, int pack) { return (p.channels == 1 ? p.inner : p.channels) % pack == 0; }

// The taps of a pack of channels, in registers if their number is known (kTaps > 0).
template <class scalar_t, int kPack, int kTaps>
struct Filter {
  using acc_t = acc_type<scalar_t>;
  const scalar_t* weight;
  int64_t taps;
  int step;  // 0 where all of a pack is one channel
  Pack<acc_t, kPack> kept[kTaps > 0 ? kTaps : 1];

  DFOPS_HD Filter(const scalar_t* all, const Plan& plan, int64_t channel)
      : weight(all + channel * plan.taps),
        taps(kTaps > 0 ? kTaps : plan.taps),
        step(plan.planes.channels == 1 ? 0 : 1) {
    for (int m = 0; m < kTaps; ++m) kept[m] = load(m);
  }
  DFOPS_HD Pack<acc_t, kPack> load(int64_t m) const {
    Pack<acc_t, kPack> values;
    for (int i = 0; i < kPack; ++i) values.values[i] = acc_t(weight[i * step * taps + m]);
    return values;
  }

  // D at row j, `y` being there; with kFlip its transpose.
  template <bool kFlip>
  DFOPS_HD Pack<acc_t, kPack> at(const scalar_t* y, const Planes& p, int64_t j) const {
    Pack<acc_t, kPack> sum{};
    const int64_t count = kTaps > 0 ? kTaps : taps, half = count / 2;
    for (int64_t m = 0; m < count; ++m) {
      const int64_t shift = m - half, tap = kFlip ? count - 1 - m : m;
      if (j + shift < 0 || j + shift >= p.length) continue;
      const auto value = load_pack<acc_t, scalar_t, kPack>(y + shift * p.inner);
      const auto w = kTaps > 0 ? kept[tap] : load(tap);
      for (int i = 0; i < kPack; ++i) sum.values[i] += w.values[i] * value.values[i];
    }
    return sum;
  }
};

template <class scalar_t, int kPack, int kTaps>
struct ForwardBody {
  scalar_t* out;
  const scalar_t *x, *weight;
  Plan plan;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<acc_t, kPack>;
    const Planes& p = plan.planes;
    const int64_t channel_group = block.index() % plan.channel_groups, slice = block.index() / plan.channel_groups,
                  slices = block.count() / plan.channel_groups;
    block.each([&](int thread) {
      const int64_t group = thread / plan.lanes, channel = plan.channel(channel_group, thread % plan.lanes, kPack);
      if (group >= plan.groups || channel >= plan.all_channels()) return;
      const Filter<scalar_t, kPack, kTaps> filter(weight, plan, channel);
      plan.template each<kPack>(channel, slice, slices, group, [&](int64_t at, int64_t j) {
        pack_t own = load_pack<acc_t, scalar_t, kPack>(x + at);
        for (int64_t t = 0; t + 1 < p.frames; ++t, at += p.frame()) {
          const scalar_t* next = x + at + p.frame();
          pack_t difference = filter.template at<false>(next, p, j);
          for (int i = 0; i < kPack; ++i) difference.values[i] -= own.values[i];
          own = load_pack<acc_t, scalar_t, kPack>(next);
          store_pack<scalar_t, acc_t, kPack>(out + at, difference);
        }
        store_pack<scalar_t, acc_t, kPack>(out + at, pack_t{});
      });
    });
  }
};

constexpr int kTapsAtOnce = 3;

// grad_x may be null; partial (slices, C, M), each slice's share of the weight gradient, may be null. More taps than
// kTapsAtOnce are summed in several passes over the data.
template <class scalar_t, int kPack, int kTaps>
struct BackwardBody {
  scalar_t* grad_x;
  acc_type<scalar_t>* partial;
  const scalar_t *grad, *x, *weight;
  Plan plan;

  static int64_t shared_bytes(int threads) {
    return in_units_of_16(kTapsAtOnce * threads * kPack, sizeof(acc_type<scalar_t>));
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    using acc_t = acc_type<scalar_t>;
    using pack_t = Pack<acc_t, kPack>;
    const int64_t channel_group = block.index() % plan.channel_groups, slice = block.index() / plan.channel_groups,
                  slices = block.count() / plan.channel_groups;
    const int threads = block.threads(), lanes = int(plan.lanes), groups = int(plan.groups);
    // (taps, pack, threads)
    acc_t* shares = partial == nullptr ? nullptr : block.template shared<acc_t>(kTapsAtOnce * kPack * threads);
    for (int64_t tap = 0; tap < plan.taps; tap += kTapsAtOnce) {
      block.each([&](int thread) {
        const int64_t group = thread / lanes, channel = plan.channel(channel_group, thread % lanes, kPack);
        pack_t sums[kTapsAtOnce] = {};
        if (group < groups && channel < plan.all_channels()) {
          const Filter<scalar_t, kPack, kTaps> filter(weight, plan, channel);
          plan.template each<kPack>(channel, slice, slices, group, [&](int64_t at, int64_t j) {
            if (grad_x != nullptr && tap == 0) differentiate_x(filter, at, j);
            if (partial != nullptr) correlate(sums, tap, at, j);
          });
        }
        if (partial != nullptr)
          for (int k = 0; k < kTapsAtOnce * kPack; ++k)
            shares[k * threads + thread] = sums[k / kPack].values[k % kPack];
      });
      if (partial == nullptr) return;
      // halves of the groups are added until one is left
      for (int left = groups; left > 1; left = (left + 1) / 2)
        block.each([&](int thread) {
          const int other = thread + (left + 1) / 2 * lanes;
          if (other >= left * lanes) return;
          for (int k = 0; k < kTapsAtOnce * kPack; ++k) shares[k * threads + thread] += shares[k * threads + other];
        });
      block.each([&](int thread) {
        const int64_t channel = plan.channel(channel_group, thread, kPack);
        if (thread >= lanes || channel >= plan.all_channels()) return;
        acc_t* to = partial + (slice * plan.all_channels() + channel) * plan.taps + tap;
        for (int k = 0; k < kTapsAtOnce && tap + k < plan.taps; ++k) {
          const acc_t* share = shares + k * kPack * threads + thread;
          acc_t total = 0;
          for (int i = 0; i < kPack; ++i) {
            if (plan.planes.channels > 1) to[i * plan.taps + k] = share[i * threads];
            total += share[i * threads];
          }
          if (plan.planes.channels == 1) to[k] = total;
        }
      });
    }
  }

  DFOPS_HD void differentiate_x(const Filter<scalar_t, kPack, kTaps>& filter, int64_t at, int64_t j) const {
    using acc_t = acc_type<scalar_t>;
    const Planes& p = plan.planes;
    for (int64_t t = 0; t < p.frames; ++t, at += p.frame()) {
      Pack<acc_t, kPack> sum{};
      if (t > 0) sum = filter.template at<true>(grad + at - p.frame(), p, j);
      if (t + 1 < p.frames) {
        const auto own = load_pack<acc_t, scalar_t, kPack>(grad + at);
        for (int i = 0; i < kPack; ++i) sum.values[i] -= own.values[i];
      }
      store_pack<scalar_t, acc_t, kPack>(grad_x + at, sum);
    }
  }

  // Adds the products of one place for the taps from `tap` on.
  template <class pack_t>
  DFOPS_HD void correlate(pack_t* sums, int64_t tap, int64_t at, int64_t j) const {
    using acc_t = acc_type<scalar_t>;
    const Planes& p = plan.planes;
    for (int64_t t = 0; t + 1 < p.frames; ++t, at += p.frame()) {
      const auto g = load_pack<acc_t, scalar_t, kPack>(grad + at);
      for (int k = 0; k < kTapsAtOnce; ++k) {
        const int64_t shift = tap + k - plan.taps / 2;
        if (tap + k >= plan.taps || j + shift < 0 || j + shift >= p.length) continue;
        const auto value = load_pack<acc_t, scalar_t, kPack>(x + at + p.frame() + shift * p.inner);
        for (int i = 0; i < kPack; ++i) sums[k].values[i] += g.values[i] * value.values[i];
      }
    }
  }
};

}  // namespace dfops::directional
