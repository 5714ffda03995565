// Block-level kernels of paired_cosine.
#pragma once

#include <algorithm>
#include <vector>

#include "paired_cosine/paired_cosine.h"

namespace dfops::cosine {

template <class acc_t>
struct Signs {
  acc_t values[kMostOthers];

  explicit Signs(const std::vector<double>& signs) { std::copy(signs.begin(), signs.end(), values); }
};

// A block takes tiles of `lanes` positions, `slots` threads share the channels of each. Neighbouring threads read
// neighbouring memory: lanes where positions are fastest, else slots.
struct Plan {
  int64_t lanes, slots, per_group, tiles;

  // The lanes fill a sector of memory; or a warp takes the channels of a position.
  Plan(const Sizes& s, int64_t bytes, int threads)
      : lanes(s.channels_fastest ? threads / 32 : 32 / bytes),
        slots(threads / lanes),
        per_group(ceil_div(s.positions, lanes)),
        tiles(s.groups * per_group) {}

  struct Place {
    int64_t lane, slot;
  };
  DFOPS_HD Place of(const Sizes& s, int thread) const {
    if (s.channels_fastest) return {thread / slots, thread % slots};
    return {thread % lanes, thread / lanes};
  }
};

template <class scalar_t>
struct ForwardBody {
  using acc_t = acc_type<scalar_t>;
  static constexpr int kAtOnce = 4, kSums = 2 * kAtOnce + 1;

  Results<acc_t> results;
  Maps<const scalar_t> anchor, others;
  Sizes sizes;
  Signs<acc_t> signs;
  acc_t eps;
  Plan plan;

  static int64_t shared_bytes(const Plan& plan, int threads) {
    return kSums * (threads + plan.lanes) * int64_t(sizeof(acc_t)) + 32;
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t lanes = plan.lanes, slots = plan.slots;
    acc_t* const shares = block.template shared<acc_t>(kSums * block.threads());  // (sums, slots, lanes)
    acc_t* const totals = block.template shared<acc_t>(kSums * lanes);
    auto out = block.template local<acc_t>();
    auto anchor_norm = block.template local<acc_t>();
    for (int64_t tile = block.index(); tile < plan.tiles; tile += block.count()) {
      const int64_t group = tile / plan.per_group, first = (tile - group * plan.per_group) * lanes;
      // also without others: the norm of the anchor is a result
      for (int64_t k = 0; k == 0 || k < s.others; k += kAtOnce) {
        const int64_t count = min64(kAtOnce, s.others - k);
        block.each([&](int thread) {
          const Plan::Place place = plan.of(s, thread);
          acc_t sums[kSums] = {};
          if (first + place.lane < s.positions) add(sums, group, first + place.lane, place.slot, k, count);
          for (int i = 0; i < kSums; ++i) shares[(i * slots + place.slot) * lanes + place.lane] = sums[i];
        });
        block.each([&](int thread) {
          for (int64_t i = thread; i < kSums * lanes; i += block.threads()) {
            acc_t total = 0;
            const acc_t* const share = shares + i / lanes * slots * lanes + i % lanes;
            for (int64_t slot = 0; slot < slots; ++slot) total += share[slot * lanes];
            totals[i] = total;
          }
        });
        block.each([&](int thread) {
          const int64_t position = first + thread;
          if (thread >= lanes || position >= s.positions) return;
          acc_t* const norms = results.norms + group * (s.others + 1) * s.positions + position;
          if (k == 0) {
            out[thread] = 0;
            norms[0] = anchor_norm[thread] = std::sqrt(totals[thread]);
          }
          for (int64_t j = 0; j < count; ++j) {
            const acc_t norm = std::sqrt(totals[(1 + j) * lanes + thread]);
            const acc_t cosine = cosine_at(totals[(1 + kAtOnce + j) * lanes + thread], anchor_norm[thread], norm, eps);
            norms[(k + j + 1) * s.positions] = norm;
            results.cosines[(group * s.others + k + j) * s.positions + position] = cosine;
            out[thread] += signs.values[k + j] * (1 - cosine);
          }
          if (k + kAtOnce >= s.others) results.out[group * s.positions + position] = out[thread];
        });
      }
    }
  }

  // The slot's channels: |a|^2, |b_k|^2 and a . b_k for `count` others from k on.
  DFOPS_HD void add(acc_t* sums, int64_t group, int64_t position, int64_t slot, int64_t k, int64_t count) const {
    const int64_t from = position * sizes.position_step(), step = sizes.channel_step();
    const scalar_t *a = anchor.of(group) + from, *b = others.of(group, k) + from;
    for (int64_t c = slot; c < sizes.channels; c += plan.slots) {
      const acc_t x = acc_t(a[c * step]);
      sums[0] += x * x;
      for (int j = 0; j < kAtOnce; ++j) {
        if (j >= count) break;
        const acc_t y = acc_t(b[j * others.map_step + c * step]);
        sums[1 + j] += y * y;
        sums[1 + kAtOnce + j] += x * y;
      }
    }
  }
};

// The blocks of a slice take every `slices`-th channel of a thread.
template <class scalar_t>
struct BackwardBody {
  using acc_t = acc_type<scalar_t>;

  Maps<scalar_t> grad_anchor, grad_others;
  const acc_t* grad;
  Maps<const scalar_t> anchor, others;
  const acc_t *norms, *cosines;
  Sizes sizes;
  Signs<acc_t> signs;
  acc_t eps;
  Plan plan;
  int64_t slices;

  static int64_t shared_bytes(const Sizes& s, const Plan& plan) {
    return (2 * s.others + 1) * plan.lanes * int64_t(sizeof(acc_t)) + 32;
  }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t lanes = plan.lanes;
    // (K + 1, lanes), that of the anchor first, and (K, lanes)
    acc_t* const own = block.template shared<acc_t>((s.others + 1) * lanes);
    acc_t* const cross = block.template shared<acc_t>(s.others * lanes);
    for (int64_t index = block.index(); index < plan.tiles * slices; index += block.count()) {
      const int64_t tile = index / slices, slice = index - tile * slices;
      const int64_t group = tile / plan.per_group, first = (tile - group * plan.per_group) * lanes;
      block.each([&](int thread) {
        for (int64_t i = thread; i < (s.others + 1) * lanes; i += block.threads()) {
          const int64_t map = i / lanes, position = first + i % lanes;
          if (position < s.positions) set_factors(own + i, cross + i - lanes, group, map, position);
        }
      });
      block.each([&](int thread) {
        const Plan::Place place = plan.of(s, thread);
        const int64_t position = first + place.lane;
        if (position >= s.positions) return;
        for (int64_t c = slice * plan.slots + place.slot; c < s.channels; c += slices * plan.slots)
          differentiate(own + place.lane, cross + place.lane, group,
                        position * s.position_step() + c * s.channel_step());
      });
    }
  }

  // `cross` is that of other map - 1; the anchor has none.
  DFOPS_HD void set_factors(acc_t* own, acc_t* cross, int64_t group, int64_t map, int64_t position) const {
    const Sizes& s = sizes;
    const acc_t g = grad[group * s.positions + position];
    const acc_t* const norm = norms + group * (s.others + 1) * s.positions + position;
    const acc_t* const cosine = cosines + group * s.others * s.positions + position;
    if (map == 0) {
      acc_t sum = 0;
      for (int64_t k = 0; k < s.others; ++k) sum += signs.values[k] * cosine[k * s.positions];
      *own = own_factor(g, sum, norm[0], eps);
    } else {
      const acc_t sign = signs.values[map - 1], other = norm[map * s.positions];
      *cross = cross_factor(g, sign, norm[0], other, eps);
      *own = own_factor(g, sign * cosine[(map - 1) * s.positions], other, eps);
    }
  }

  DFOPS_HD void differentiate(const acc_t* own, const acc_t* cross, int64_t group, int64_t at) const {
    const acc_t x = acc_t(anchor.of(group)[at]);
    acc_t sum = own[0] * x;
    for (int64_t k = 0; k < sizes.others; ++k) {
      const acc_t y = acc_t(others.of(group, k)[at]), from_a = cross[k * plan.lanes];
      sum += from_a * y;
      if (grad_others.data != nullptr)
        grad_others.of(group, k)[at] = scalar_t(from_a * x + own[(k + 1) * plan.lanes] * y);
    }
    if (grad_anchor.data != nullptr) grad_anchor.of(group)[at] = scalar_t(sum);
  }
};

}  // namespace dfops::cosine
