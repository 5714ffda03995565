// CPU loops. A unit is a run of neighbouring elements of a map: the plane of a channel, or, where channels vary
// fastest, the channels of a position.
#pragma once

#include <algorithm>
#include <vector>

#include "common/gather.h"
#include "feature_mixup/feature_mixup_loops.h"
#include "latent_augment/latent_augment.h"

namespace dfops::augment {

inline int64_t units_of(const Sizes& s) { return s.channels_last ? s.positions() : s.channels; }
inline int64_t run_of(const Sizes& s) { return s.channels_last ? s.channels : s.positions(); }
inline int64_t unit_step(const Sizes& s, int64_t halves) {
  return s.channels_last ? s.steps(halves).position : s.steps(halves).channel;
}

// What a loop reads at element i: memory, or one value.
template <class scalar_t>
struct Run {
  const scalar_t* from;
  DFOPS_INLINE acc_type<scalar_t> operator()(int64_t i) const { return acc_type<scalar_t>(from[i]); }
};
template <class acc_t>
struct Same {
  acc_t value;
  DFOPS_INLINE acc_t operator()(int64_t) const { return value; }
};

// out = z + scale (x - y)
template <class scalar_t, class S, class X, class Y>
DFOPS_CLONES void move_run(scalar_t* out, const scalar_t* z, S scale, X x, Y y, int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = scalar_t(acc_t(z[i]) + scale(i) * (x(i) - y(i)));
}

// to = scale * x
template <class acc_t, class S, class X>
DFOPS_CLONES void scale_run(acc_t* to, S scale, X x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = scale(i) * x(i);
}

// to += scale * x
template <class acc_t, class S, class X>
DFOPS_CLONES void add_run(acc_t* to, S scale, X x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] += scale(i) * x(i);
}

// A summand of many values: factor * from.
template <class scalar_t>
struct Term {
  acc_type<scalar_t> factor;
  const scalar_t* from;
};

// sum += the terms' values [first, first + n)
template <class scalar_t>
DFOPS_INLINE void add_terms(acc_type<scalar_t>* sum, const std::vector<Term<scalar_t>>& terms, int64_t first,
                            int64_t n) {
  for (const auto& term : terms) {
#pragma omp simd
    for (int64_t k = 0; k < n; ++k) sum[k] += term.factor * acc_type<scalar_t>(term.from[first + k]);
  }
}

// out = the sum of the terms, and of others that are kept in the type that accumulates.
template <class out_t, class scalar_t, class acc_t>
DFOPS_CLONES void sum_terms(out_t* out, const std::vector<Term<scalar_t>>& terms, const std::vector<Term<acc_t>>& wide,
                            int64_t n) {
  constexpr int64_t kLanes = 64;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    acc_t sum[kLanes] = {};  // of constant size, so that it stays in registers
    add_terms(sum, terms, i, kLanes);
    add_terms(sum, wide, i, kLanes);
#pragma omp simd
    for (int64_t k = 0; k < kLanes; ++k) out[i + k] = out_t(sum[k]);
  }
  acc_t sum[kLanes] = {};
  add_terms(sum, terms, i, n - i);
  add_terms(sum, wide, i, n - i);
  for (int64_t k = 0; i + k < n; ++k) out[i + k] = out_t(sum[k]);
}

template <class acc_t>
DFOPS_CLONES void divide_run(acc_t* to, acc_t by, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] /= by;
}

// The sum of f(i), in one order on every machine, so that equal rows have equal distances.
template <class acc_t, int64_t kLanes, class F>
DFOPS_INLINE acc_t sum_of(const F& f, int64_t n) {
  acc_t lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
#pragma omp simd
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] += f(i + k);
  for (int64_t k = 0; i + k < n; ++k) lanes[k] += f(i + k);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

// More lanes for longer rows.
template <int64_t kLanes, class scalar_t>
DFOPS_CLONES acc_type<scalar_t> squared_distance(const scalar_t* z, const acc_type<scalar_t>* from, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  return sum_of<acc_t, kLanes>(
      [&](int64_t i) __attribute__((always_inline)) { return (acc_t(z[i]) - from[i]) * (acc_t(z[i]) - from[i]); }, n);
}

// to += (z - from)^2
template <class scalar_t>
DFOPS_CLONES void add_squares(acc_type<scalar_t>* to, const scalar_t* z, acc_type<scalar_t> from, int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] += (acc_t(z[i]) - from) * (acc_t(z[i]) - from);
}

// The sum of weight * x
template <class scalar_t, class S>
DFOPS_CLONES acc_type<scalar_t> dot(S weight, const scalar_t* x, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  return sum_of<acc_t, 16>([&](int64_t i) __attribute__((always_inline)) { return weight(i) * acc_t(x[i]); }, n);
}

// sums (H, W) = the sum over the channels of a map, each times its weight, or times 1 where `weight` is null.
template <class scalar_t>
void sum_channels(acc_type<scalar_t>* sums, const scalar_t* map, const acc_type<scalar_t>* weight, const Sizes& s,
                  int64_t halves) {
  using acc_t = acc_type<scalar_t>;
  const int64_t step = unit_step(s, halves);
  if (s.channels_last) {
    for (int64_t p = 0; p < s.positions(); ++p)
      sums[p] = weight != nullptr ? dot(Run<acc_t>{weight}, map + p * step, s.channels)
                                  : dot(Same<acc_t>{1}, map + p * step, s.channels);
    return;
  }
  std::fill_n(sums, s.positions(), acc_t(0));
  for (int64_t c = 0; c < s.channels; ++c)
    add_run(sums, Same<acc_t>{weight != nullptr ? weight[c] : 1}, Run<scalar_t>{map + c * step}, s.positions());
}

// Keeps the farthest of the rows it is shown in order, the first of several; row 0 before it has seen any.
struct Farthest {
  uint64_t key = 0;
  int64_t row = 0;

  void see(uint64_t other, int64_t number) {
    if (other > key) *this = {other, number};
  }
};

// Sample granularity, elements [begin, end) of a domain's rows: the mean of the rows, and of each row its share of the
// squared distance from `given`, or, where that is null, from the mean. `centroid` and `given` are those of the domain.
template <class scalar_t>
void sample_statistics(acc_type<scalar_t>* centroid, acc_type<scalar_t>* shares, const scalar_t* z,
                       const acc_type<scalar_t>* given, const Sizes& s, int64_t domain, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t n = end - begin;
  const auto row = [&](int64_t g) { return z + row_offset(s, domain, g) + begin; };
  std::vector<Term<scalar_t>> terms;
  for (int64_t g = 0; g < s.groups; ++g) terms.push_back({1, row(g)});
  sum_terms(centroid + begin, terms, std::vector<Term<acc_t>>(), n);
  divide_run(centroid + begin, acc_t(s.groups), n);
  const acc_t* from = (given != nullptr ? given : centroid) + begin;
  for (int64_t g = 0; g < s.groups; ++g) shares[g] = squared_distance<64>(row(g), from, n);
}

// Channel granularity: the farthest from `from` (H, W) of the rows in one map.
template <class scalar_t>
Farthest farthest_channel(const scalar_t* z, const acc_type<scalar_t>* from, const Sizes& s, int64_t map) {
  using acc_t = acc_type<scalar_t>;
  const scalar_t* first = z + map * s.map();
  const int64_t step = unit_step(s, 1), number = map / s.domains * s.channels;
  std::vector<acc_t> distance(s.channels);
  if (s.channels_last)
    for (int64_t p = 0; p < s.positions(); ++p) add_squares(distance.data(), first + p * step, from[p], s.channels);
  else
    for (int64_t c = 0; c < s.channels; ++c) distance[c] = squared_distance<16>(first + c * step, from, s.positions());
  Farthest farthest{0, number};
  for (int64_t c = 0; c < s.channels; ++c) farthest.see(distance_key(distance[c]), number + c);
  return farthest;
}

// Maps [begin, end): what each that is rotated reads, or, `adjoint`, what reads its positions.
template <class acc_t>
void gather_range(std::vector<Gather<acc_t>>& gathers, const Draws<acc_t>& draws, const Sizes& s, bool adjoint,
                  int64_t begin, int64_t end) {
  for (int64_t map = begin; map < end; ++map) {
    if (draws.transform(s, map) != kRotate) continue;
    const Rotation<acc_t> rotation(draws.angle[map], s.height, s.width);
    gathers[map].collect(s.height, s.width, [&](int64_t row, int64_t col, const auto& add) {
      rotation.around(rotation.source(row, col),
                      [&](int, int64_t offset, acc_t by_row, acc_t by_col) { add(offset, by_row * by_col); });
    });
    if (adjoint) gathers[map].transpose();
  }
}

// Units [begin, end) of a map, `to` the first of them, `from` the first of the map.
template <class out_t, class scalar_t>
void gather_units(out_t* to, int64_t to_step, const scalar_t* from, int64_t from_step,
                  const Gather<acc_type<scalar_t>>& gather, const Sizes& s, int64_t begin, int64_t end) {
  if (s.channels_last)
    gather_positions(to, to_step, from, from_step, s.channels, gather, begin, end);
  else
    gather_planes(to, from + begin * from_step, end - begin, gather);
}

// Draws that may differ from channel to channel, for the loops over a unit: f(the run's value or values).
template <class acc_t, class F>
void with_scale(const std::vector<acc_t>& scale, const Sizes& s, int64_t unit, const F& f) {
  if (!s.per_channel) return f(Same<acc_t>{scale[0]});
  if (s.channels_last) return f(Run<acc_t>{scale.data()});
  f(Same<acc_t>{scale[unit]});
}

template <class scalar_t>
struct Forward {
  using acc_t = acc_type<scalar_t>;
  Sizes sizes;
  Draws<acc_t> draws;
  scalar_t* out;
  const scalar_t *z, *noise;
  const acc_t* centroid;  // of id 1: the given one, or that of the batch
  const int64_t* hard_index;
  const Gather<acc_t>* gathers;
  int64_t halves;

  // Units [begin, end) of a map.
  void operator()(int64_t map, int64_t begin, int64_t end) const {
    const Sizes& s = sizes;
    const int64_t domain = map % s.domains, id = draws.transform(s, map), to_step = unit_step(s, halves);
    const scalar_t* own = z + map * s.map();
    scalar_t* to = out + map * s.steps(halves).map;
    // where both lie without gaps and have one lam, all units are one run
    const bool joined = !s.per_channel && to_step == run_of(s);
    const int64_t units = joined ? 1 : end - begin, n = joined ? (end - begin) * run_of(s) : run_of(s);
    const acc_t mix = halves == 2 ? draws.mix_weight(s, map) : 0;
    const scalar_t* partner = halves == 2 ? z + (map - domain + draws.partner(s, map)) * s.map() : nullptr;
    std::vector<acc_t> scale;
    if (id == kRotate) {
      gather_units(to + begin * to_step, to_step, own, run_of(s), gathers[map], s, begin, end);
    } else if (id != kCopy) {
      for (int64_t c = 0; c < (s.per_channel ? s.channels : 1); ++c) scale.push_back(draws.scale(s, id, map, c));
    }
    for (int64_t u = begin; u < begin + units; ++u) {
      const int64_t at = u * run_of(s);
      scalar_t* run = to + u * to_step;
      if (id == kCopy)
        std::copy_n(own + at, n, run);
      else if (id != kRotate)
        with_scale(scale, s, u, [&](auto by) { move(run, own + at, by, id, map, u, n); });
      if (halves == 2) mixup::blend_range(run + s.steps(2).half, own + at, partner + at, mix, n);
    }
  }

 private:
  template <class S>
  void move(scalar_t* to, const scalar_t* own, S scale, int64_t id, int64_t map, int64_t unit, int64_t n) const {
    const Sizes& s = sizes;
    const int64_t domain = map % s.domains, at = unit * run_of(s);
    // rows of a channel are the same for every channel: at their beginning, or one value for a position
    const int64_t in_row = s.per_channel && !s.channels_last ? 0 : at;
    const Run<scalar_t> z_run{own};
    if (id == kAdd) return move_run(to, own, scale, Run<scalar_t>{noise + map * s.map() + at}, Same<acc_t>{0}, n);
    if (id == kExtrapolate) {
      const acc_t* mean = centroid + domain * s.row();
      if (!s.per_channel) return move_run(to, own, scale, z_run, Run<acc_t>{mean + at}, n);
      if (s.channels_last) return move_run(to, own, scale, z_run, Same<acc_t>{mean[unit]}, n);
      return move_run(to, own, scale, z_run, Run<acc_t>{mean}, n);
    }
    if (id == kInterpolate) {
      const scalar_t* hard = z + row_offset(s, domain, hard_index[domain]) + in_row;
      if (s.per_channel && s.channels_last) return move_run(to, own, scale, Same<acc_t>{acc_t(*hard)}, z_run, n);
      return move_run(to, own, scale, Run<scalar_t>{hard}, z_run, n);
    }
    const int64_t first = s.per_channel ? map / s.domains * s.channels : 0;
    const scalar_t *a = z + row_offset(s, domain, first) + in_row, *b = z + row_offset(s, domain, first + 1) + in_row;
    if (s.per_channel && s.channels_last)
      return move_run(to, own, scale, Same<acc_t>{acc_t(*a)}, Same<acc_t>{acc_t(*b)}, n);
    move_run(to, own, scale, Run<scalar_t>{a}, Run<scalar_t>{b}, n);
  }
};

template <class scalar_t>
struct Backward {
  using acc_t = acc_type<scalar_t>;
  Sizes sizes;
  Draws<acc_t> draws;
  scalar_t* grad_z;
  const scalar_t* grad;
  const int64_t* hard_index;
  const Gather<acc_t>* gathers;
  const acc_t* map_sums;  // channel granularity: of lam * grad over the channels of maps that read rows, (maps, H, W)
  int64_t halves;
  bool detach;

  // Units [begin, end) of a domain's maps.
  void operator()(int64_t domain, int64_t begin, int64_t end) const {
    const Sizes& s = sizes;
    const int64_t run = run_of(s), numel = (end - begin) * run;
    // gradients of the farthest row, of the sum of all rows, and, at sample granularity, of z_j - z_k of id 3
    std::vector<acc_t> hard, mean, pair;
    sum_gradients(hard, domain, begin, end, [&](int64_t id) { return id == kInterpolate && !detach; });
    sum_gradients(mean, domain, begin, end,
                  [&](int64_t id) { return id == kExtrapolate && !detach && !draws.given_centroid; });
    if (!s.per_channel) sum_gradients(pair, domain, begin, end, [&](int64_t id) { return id == kDifference; });
    std::vector<acc_t> own(numel);
    std::vector<Term<scalar_t>> terms;
    std::vector<Term<acc_t>> wide;
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t map = g * s.domains + domain, id = draws.transform(s, map);
      terms.clear();
      wide.clear();
      if (id == kRotate || s.per_channel) {
        differentiate_channels(own.data(), id, map, begin, end, hard, mean);
        wide.push_back({1, own.data()});
      } else {
        terms.push_back({draws.own_factor(s, id, map, 0), grad_at(map, begin)});
      }
      if (!s.per_channel) {
        if (!mean.empty()) wide.push_back({-1 / acc_t(s.rows()), mean.data()});
        if (!hard.empty() && hard_index[domain] == g) wide.push_back({1, hard.data()});
        if (!pair.empty() && g < 2) wide.push_back({acc_t(g == 0 ? 1 : -1), pair.data()});
      }
      if (halves == 2) {
        const int64_t half = s.steps(2).half;
        terms.push_back({draws.mix_weight(s, map), grad_at(map, begin) + half});
        for (int64_t other = g * s.domains; other < (g + 1) * s.domains; ++other)
          if (draws.partner(s, other) == domain)
            terms.push_back({1 - draws.mix_weight(s, other), grad_at(other, begin) + half});
      }
      sum_units(grad_z + map * s.map() + begin * run, terms, wide, end - begin);
    }
  }

 private:
  const scalar_t* grad_at(int64_t map, int64_t unit) const {
    return grad + map * sizes.steps(halves).map + unit * unit_step(sizes, halves);
  }

  // The same of every unit.
  template <class out_t>
  void sum_units(out_t* out, std::vector<Term<scalar_t>>& terms, std::vector<Term<acc_t>>& wide, int64_t units) const {
    const int64_t run = run_of(sizes), step = unit_step(sizes, halves);
    if (step == run) return sum_terms(out, terms, wide, units * run);
    for (int64_t u = 0; u < units; ++u, out += run) {
      sum_terms(out, terms, wide, run);
      for (auto& term : terms) term.from += step;
      for (auto& term : wide) term.from += run;
    }
  }

  // sum = of lam times the gradient of the maps that take part; empty where none does.
  template <class F>
  void sum_gradients(std::vector<acc_t>& sum, int64_t domain, int64_t begin, int64_t end, const F& takes_part) const {
    const Sizes& s = sizes;
    std::vector<Term<scalar_t>> terms;
    std::vector<Term<acc_t>> wide;
    for (int64_t map = domain; map < s.maps(); map += s.domains) {
      if (!takes_part(draws.transform(s, map))) continue;
      if (s.per_channel)
        wide.push_back({1, map_sums + map * s.positions()});
      else
        terms.push_back({draws.lam[map], grad_at(map, begin)});
    }
    if (terms.empty() && wide.empty()) return;
    sum.resize(s.per_channel ? s.positions() : (end - begin) * run_of(s));
    if (s.per_channel)
      sum_terms(sum.data(), terms, wide, s.positions());
    else
      sum_units(sum.data(), terms, wide, end - begin);
  }

  // What differs from channel to channel or position to position: to = the gradient of a map, mixup apart; at sample
  // granularity of rotation alone.
  void differentiate_channels(acc_t* to, int64_t id, int64_t map, int64_t begin, int64_t end,
                              const std::vector<acc_t>& hard, const std::vector<acc_t>& mean) const {
    const Sizes& s = sizes;
    const int64_t run = run_of(s), group = map / s.domains, hard_row = hard_index[map % s.domains];
    if (id == kRotate) {
      gather_units(to, run, grad_at(map, 0), unit_step(s, halves), gathers[map], s, begin, end);
    } else {
      std::vector<acc_t> factor;
      for (int64_t c = 0; c < s.channels; ++c) factor.push_back(draws.own_factor(s, id, map, c));
      for (int64_t u = begin; u < end; ++u)
        with_scale(factor, s, u,
                   [&](auto by) { scale_run(to + (u - begin) * run, by, Run<scalar_t>{grad_at(map, u)}, run); });
    }
    if (!s.per_channel) return;
    if (!mean.empty()) add_to_rows(to, -1 / acc_t(s.rows()), mean, begin, end);
    if (!hard.empty() && hard_row / s.channels == group)
      add_to_channel(to, 1, hard.data(), hard_row % s.channels, begin, end);
    if (id != kDifference) return;
    add_to_channel(to, 1, map_sums + map * s.positions(), 0, begin, end);
    add_to_channel(to, -1, map_sums + map * s.positions(), 1, begin, end);
  }

  // Every channel gets `factor` times (H, W) values.
  void add_to_rows(acc_t* to, acc_t factor, const std::vector<acc_t>& values, int64_t begin, int64_t end) const {
    const int64_t run = run_of(sizes);
    for (int64_t u = begin; u < end; ++u, to += run)
      if (sizes.channels_last)
        add_run(to, Same<acc_t>{factor}, Same<acc_t>{values[u]}, run);
      else
        add_run(to, Same<acc_t>{factor}, Run<acc_t>{values.data()}, run);
  }

  // One channel gets `factor` times (H, W) values.
  void add_to_channel(acc_t* to, acc_t factor, const acc_t* values, int64_t channel, int64_t begin, int64_t end) const {
    if (sizes.channels_last)
      for (int64_t u = begin; u < end; ++u) to[(u - begin) * sizes.channels + channel] += factor * values[u];
    else if (begin <= channel && channel < end)
      add_run(to + (channel - begin) * run_of(sizes), Same<acc_t>{factor}, Run<acc_t>{values}, run_of(sizes));
  }
};

}  // namespace dfops::augment
