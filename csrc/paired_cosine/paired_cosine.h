// out[g][p] = sum_k signs[k] (1 - a^ . b^_k) with a^ = a / (|a| + eps) and b^_k = b_k / (|b_k| + eps), where a and b_k
// are vectors of channels: those of the anchor and of the K others of group g at position p.
//
// The forward keeps |a|, |b_k| and a^ . b^_k; with them a gradient is, channel by channel, a sum of the inputs times
// factors of the position.
#pragma once

#include "common/portable.h"

namespace dfops::cosine {

// The signs travel with the arguments of a launch, which have room for so many.
constexpr int64_t kMostOthers = 256;

struct Sizes {
  int64_t groups, others, channels, positions;
  bool channels_fastest;

  DFOPS_HD int64_t channel_step() const { return channels_fastest ? 1 : positions; }
  DFOPS_HD int64_t position_step() const { return channels_fastest ? channels : 1; }
};

// Where the maps (C, P) begin in memory.
template <class scalar_t>
struct Maps {
  scalar_t* data;  // null for gradients that are not needed
  int64_t group_step, map_step;

  DFOPS_HD scalar_t* of(int64_t group, int64_t map = 0) const { return data + group * group_step + map * map_step; }
};

// What the forward gives: out (G, P), norms (G, K + 1, P), that of the anchor first, and cosines (G, K, P).
template <class acc_t>
struct Results {
  acc_t *out, *norms, *cosines;
};

template <class acc_t>
DFOPS_HD acc_t cosine_at(acc_t dot, acc_t anchor_norm, acc_t norm, acc_t eps) {
  return dot / (anchor_norm + eps) / (norm + eps);
}

// The gradient g of out at a position gives d a = own a + sum_k cross_k b_k and d b_k = cross_k a + own_k b_k.
template <class acc_t>
DFOPS_HD acc_t cross_factor(acc_t grad, acc_t sign, acc_t anchor_norm, acc_t norm, acc_t eps) {
  return -grad * sign / (anchor_norm + eps) / (norm + eps);
}

// `cosine` is sign * cosine; for the anchor, their sum.
template <class acc_t>
DFOPS_HD acc_t own_factor(acc_t grad, acc_t cosine, acc_t norm, acc_t eps) {
  return norm == 0 ? acc_t(0) : grad * cosine / norm / (norm + eps);
}

}  // namespace dfops::cosine
