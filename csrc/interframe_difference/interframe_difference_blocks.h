// Block-level kernels of interframe_difference.
#pragma once

#include "interframe_difference/interframe_difference.h"

namespace dfops::difference {

// ---- Tiles of positions ---------------------------------------------------------------------------------------------

// A block is kWarp positions wide (lanes) and some frames high (rows); it loops over frames beyond its rows.
constexpr int kWarp = 32;
constexpr int kChunk = 8;  // channels a thread loads at a time

// Rows (i, lane) of kWarp values in shared memory, or in the block's part of a workspace where they do not fit.
template <class Block, class acc_t>
DFOPS_HD acc_t* scratch_of(Block& block, acc_t* workspace, int64_t rows) {
  return workspace == nullptr ? block.template shared<acc_t>(rows * kWarp) : workspace + block.index() * rows * kWarp;
}

// s (B, T, P) and, unless null, variance (B, P); unless null, out (B, T, P) is filled with `fill`. query and key come
// from memory once: lanes run along positions, or along channels where these are last, through a tile in shared memory.
template <class scalar_t>
struct MapBody {
  using acc_t = acc_type<scalar_t>;

  acc_t *s, *variance;
  scalar_t* out;
  Clip<const scalar_t> query, key;
  acc_t* workspace;
  int64_t clips;
  acc_t min_variance, fill;

  // a pad against bank conflicts
  static constexpr int kPitch = kWarp + 1;

  DFOPS_HD static int64_t scratch_rows(int64_t frames, int64_t channels) { return channels + frames; }
  DFOPS_HD static int64_t stage_values(int rows) { return rows * kChunk * kPitch; }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const int64_t frames = query.frames, channels = query.channels, positions = query.positions;
    const int64_t tiles = ceil_div(positions, kWarp);
    const int rows = block.threads() / kWarp;
    // (channels, kWarp), then (frames, kWarp): 1 / |k|, later s
    acc_t* const total = scratch_of(block, workspace, scratch_rows(frames, channels));
    acc_t* const per_frame = total + channels * kWarp;
    acc_t* const stage =
        query.channels_last || key.channels_last ? block.template shared<acc_t>(stage_values(rows)) : nullptr;
    auto square = block.template local<acc_t>();
    auto dot = block.template local<acc_t>();
    for (int64_t tile = block.index(); tile < clips * tiles; tile += block.count()) {
      const int64_t b = tile / tiles, first = tile % tiles * kWarp;
      visit(block, key, b, first, stage, [&](int thread, int64_t t, int64_t c, const acc_t* values) {
        acc_t sum = c == 0 ? acc_t(0) : square[thread];
        for (int j = 0; j < kChunk; ++j) sum += values[j] * values[j];
        square[thread] = sum;
        if (c + kChunk >= channels) per_frame[t * kWarp + thread % kWarp] = inverse_norm(sum);
      });
      if (key.channels_last)
        add_up_staged(block, b, first, stage, total, per_frame);
      else
        add_up(block, b, first, total, per_frame);
      visit(block, query, b, first, stage, [&](int thread, int64_t t, int64_t c, const acc_t* values) {
        const int lane = thread % kWarp;
        acc_t sum = c == 0 ? acc_t(0) : square[thread], along = c == 0 ? acc_t(0) : dot[thread];
        for (int j = 0; j < kChunk; ++j)
          if (c + j < channels) {
            sum += values[j] * values[j];
            along += values[j] * total[(c + j) * kWarp + lane];
          }
        square[thread] = sum;
        dot[thread] = along;
        if (c + kChunk < channels) return;
        const acc_t value = difference_at(along, inverse_norm(sum), acc_t(frames));
        const int64_t index = (b * frames + t) * positions + first + lane;
        per_frame[t * kWarp + lane] = value;
        s[index] = value;
        if (out != nullptr) out[index] = scalar_t(fill);
      });
      block.each([&](int thread) {
        if (variance != nullptr && thread < kWarp && first + thread < positions)
          variance[b * positions + first + thread] =
              variance_at<acc_t>(per_frame + thread, kWarp, frames, min_variance);
      });
    }
  }

 private:
  // f(thread, t, c, values of channels [c, c + kChunk)) for every frame and every position of the tile; zeros stand
  // for channels there are none of. Without channels one such call.
  template <class Block, class F>
  DFOPS_HD void visit(Block& block, const Clip<const scalar_t>& clip, int64_t b, int64_t first, acc_t* stage,
                      F f) const {
    const int rows = block.threads() / kWarp;
    for (int64_t t0 = 0; t0 < clip.frames; t0 += rows) {
      if (!clip.channels_last) {
        block.each([&](int thread) {
          const int64_t t = t0 + thread / kWarp, p = first + thread % kWarp;
          if (t >= clip.frames || p >= clip.positions) return;
          const scalar_t* const from = clip.frame(b, t) + p;
          for (int64_t c = 0; c == 0 || c < clip.channels; c += kChunk) {
            acc_t values[kChunk];
            for (int j = 0; j < kChunk; ++j)
              values[j] = c + j < clip.channels ? acc_t(from[(c + j) * clip.positions]) : acc_t(0);
            f(thread, t, c, values);
          }
        });
      } else {
        for (int64_t c = 0; c == 0 || c < clip.channels; c += kChunk) {
          load(block, clip, b, t0, first, c, stage);
          block.each([&](int thread) {
            const int64_t t = t0 + thread / kWarp;
            if (t >= clip.frames || first + thread % kWarp >= clip.positions) return;
            acc_t values[kChunk];
            for (int j = 0; j < kChunk; ++j) values[j] = stage[(thread / kWarp * kChunk + j) * kPitch + thread % kWarp];
            f(thread, t, c, values);
          });
        }
      }
    }
  }

  // stage (rows, kChunk, kPitch): channels [c, c + kChunk) of the tile in frames [t0, t0 + rows), zeros outside.
  template <class Block>
  DFOPS_HD void load(Block& block, const Clip<const scalar_t>& clip, int64_t b, int64_t t0, int64_t first, int64_t c,
                     acc_t* stage) const {
    block.each([&](int thread) {
      const int row = thread / kWarp, lane = thread % kWarp;
      const int64_t t = t0 + row;
      acc_t values[kChunk];
      for (int i = 0; i < kChunk; ++i) {
        const int64_t p = first + (i * kWarp + lane) / kChunk, channel = c + lane % kChunk;
        const bool inside = t < clip.frames && p < clip.positions && channel < clip.channels;
        values[i] = inside ? acc_t(clip.frame(b, t)[p * clip.channels + channel]) : acc_t(0);
      }
      for (int i = 0; i < kChunk; ++i)
        stage[(row * kChunk + lane % kChunk) * kPitch + (i * kWarp + lane) / kChunk] = values[i];
    });
  }

  // total[c] = sum of k[t, c] / |k[t]| in frame order; rows run over channels.
  template <class Block>
  DFOPS_HD void add_up(Block& block, int64_t b, int64_t first, acc_t* total, const acc_t* inverse) const {
    block.each([&](int thread) {
      const int lane = thread % kWarp;
      if (first + lane >= key.positions) return;
      for (int64_t c = thread / kWarp; c < key.channels; c += block.threads() / kWarp) {
        const scalar_t* const from = key.frame(b, 0) + c * key.positions + first + lane;
        acc_t sum = 0;
        for (int64_t t = 0; t < key.frames; ++t)
          sum += acc_t(from[t * key.channels * key.positions]) * inverse[t * kWarp + lane];
        total[c * kWarp + lane] = sum;
      }
    });
  }

  template <class Block>
  DFOPS_HD void add_up_staged(Block& block, int64_t b, int64_t first, acc_t* stage, acc_t* total,
                              const acc_t* inverse) const {
    const int rows = block.threads() / kWarp;
    const bool staged = key.channels <= kChunk && key.frames <= rows;  // the norms left all of the tile
    for (int64_t c = 0; c < key.channels; c += kChunk)
      for (int64_t t0 = 0; t0 < key.frames; t0 += rows) {
        if (!staged) load(block, key, b, t0, first, c, stage);
        block.each([&](int thread) {
          const int lane = thread % kWarp;
          if (first + lane >= key.positions) return;
          for (int j = thread / kWarp; j < kChunk && c + j < key.channels; j += rows) {
            acc_t sum = t0 == 0 ? acc_t(0) : total[(c + j) * kWarp + lane];
            for (int row = 0; row < rows && t0 + row < key.frames; ++row)
              sum += stage[(row * kChunk + j) * kPitch + lane] * inverse[(t0 + row) * kWarp + lane];
            total[(c + j) * kWarp + lane] = sum;
          }
        });
      }
  }
};

// ---- The selection, one block a clip
// ----------------------------------------------------------------------------------

// threshold (B,); unless null, positions (B, num_keep), values (B, T, num_keep) and out (B, T, P), which under "le"
// (positions given) is filled already and receives the survivors only.
template <class scalar_t>
struct SelectBody {
  using acc_t = acc_type<scalar_t>;
  using key_t = key_type<acc_t>;

  acc_t* threshold;
  int64_t* positions;
  scalar_t *values, *out;
  const acc_t *s, *variance;
  int64_t frames, count, num_keep;
  bool normalize;
  acc_t eps;

  static constexpr int kDigit = 11, kBins = 1 << kDigit;
  static int64_t shared_bytes() { return kBins * int64_t(sizeof(int)) + 32; }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const int64_t b = block.index();
    const acc_t* const v = variance + b * count;
    const acc_t limit = count == 0 ? acc_t(0) : select(block, v);
    int64_t* const slots = positions == nullptr ? nullptr : positions + b * num_keep;
    const int64_t used = slots == nullptr ? 0 : compact(block, v, limit, slots);
    block.each([&](int thread) {
      if (thread == 0) threshold[b] = limit;
    });
    const bool whole = out != nullptr && (slots == nullptr || limit != limit);
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t row = b * frames + t;
      if (whole) finish_whole(block, s + row * count, v, limit, slots == nullptr, out + row * count);
      if (!whole && out != nullptr) finish_slots(block, s + row * count, slots, used, out + row * count);
      if (values != nullptr) finish_values(block, s + row * count, slots, used, limit, values + row * num_keep);
    }
  }

 private:
  // The num_keep-th largest, digit by digit from the top.
  template <class Block>
  DFOPS_HD acc_t select(Block& block, const acc_t* v) const {
    constexpr int kBits = 8 * int(sizeof(key_t));
    int* const bins = block.template shared<int>(kBins);
    key_t* const found = block.template shared<key_t>(1);  // the digits so far
    int* const rank = block.template shared<int>(1);       // the rank among the keys that share them
    block.each([&](int thread) {
      if (thread == 0) {
        *found = 0;
        *rank = int(num_keep);
      }
    });
    auto above = block.template local<int>();
    auto own = block.template local<int>();
    for (int low = kBits; low > 0;) {
      const int high = low, digit = low < kDigit ? low : kDigit, size = 1 << digit;
      low -= digit;
      block.each([&](int thread) {
        for (int bin = thread; bin < size; bin += block.threads()) bins[bin] = 0;
      });
      block.each([&](int thread) {
        const key_t prefix = *found;
        for (int64_t p = thread; p < count; p += block.threads()) {
          const key_t key = key_of(v[p]);
          if (high == kBits || (key >> (high % kBits)) == (prefix >> (high % kBits)))
            block.add(&bins[int(key >> low) & (size - 1)], 1);
        }
      });
      // thread 0 has the topmost bins
      const int share = int(ceil_div(size, block.threads()));
      block.each([&](int thread) {
        int sum = 0;
        for (int i = 0; i < share; ++i) {
          const int bin = size - 1 - (thread * share + i);
          if (bin >= 0) sum += bins[bin];
        }
        above[thread] = own[thread] = sum;
      });
      block.scan(above);
      auto digits = block.template local<int>();
      block.each([&](int thread) {
        // one thread's share holds the rank; it alone writes, after all have read
        digits[thread] = -1;
        int left = *rank - above[thread];
        if (left < 1 || left > own[thread]) return;
        int bin = size - 1 - thread * share;
        while (left > bins[bin]) left -= bins[bin--];
        digits[thread] = bin;
        above[thread] = left;
      });
      block.each([&](int thread) {
        if (digits[thread] < 0) return;
        *found |= key_t(digits[thread]) << low;
        *rank = above[thread];
      });
    }
    return value_of<acc_t>(*found);
  }

  // Positions of the survivors, ascending, -1 in unused slots; returns how many slots are used.
  template <class Block>
  DFOPS_HD int64_t compact(Block& block, const acc_t* v, acc_t limit, int64_t* slots) const {
    auto place = block.template local<int>();
    const int64_t share = ceil_div(count, block.threads());
    block.each([&](int thread) {
      int kept = 0;
      for (int64_t p = thread * share; p < min64(count, (thread + 1) * share); ++p) kept += has_slot(v[p], limit);
      place[thread] = kept;
    });
    const int64_t used = min64(num_keep, block.scan(place));
    block.each([&](int thread) {
      int64_t slot = place[thread];
      for (int64_t p = thread * share; p < min64(count, (thread + 1) * share); ++p)
        if (slot < num_keep && has_slot(v[p], limit)) slots[slot++] = p;
      for (int64_t j = used + thread; j < num_keep; j += block.threads()) slots[j] = -1;
    });
    return used;
  }

  // The maximum of a frame; NaN if one survivor is.
  template <class Block>
  DFOPS_HD acc_t highest(Block& block, const acc_t* row, const int64_t* slots, int64_t used) const {
    auto best = block.template local<key_t>();
    block.each([&](int thread) {
      key_t most = key_of(-acc_t(frames));
      for (int64_t j = thread; j < used; j += block.threads()) {
        const key_t key = key_of(row[slots[j]]);
        most = key > most ? key : most;
      }
      best[thread] = most;
    });
    return value_of<acc_t>(block.max(best));
  }

  template <class Block>
  DFOPS_HD void finish_values(Block& block, const acc_t* row, const int64_t* slots, int64_t used, acc_t limit,
                              scalar_t* to) const {
    const acc_t high = limit != limit ? limit : highest(block, row, slots, used);
    const acc_t low = high != high ? high : -acc_t(frames);
    block.each([&](int thread) {
      for (int64_t j = thread; j < num_keep; j += block.threads()) {
        acc_t value = 0;
        if (j < used) value = normalize ? normalized_at(row[slots[j]], low, high, eps) : row[slots[j]];
        to[j] = scalar_t(j < used && limit != limit ? limit : value);
      }
    });
  }

  template <class Block>
  DFOPS_HD void finish_slots(Block& block, const acc_t* row, const int64_t* slots, int64_t used, scalar_t* to) const {
    const acc_t high = normalize ? highest(block, row, slots, used) : acc_t(0);
    block.each([&](int thread) {
      if (high != high) {  // a NaN reaches all of its frame
        for (int64_t p = thread; p < count; p += block.threads()) to[p] = scalar_t(high);
        return;
      }
      for (int64_t j = thread; j < used; j += block.threads())
        to[slots[j]] = scalar_t(normalize ? normalized_at(row[slots[j]], -acc_t(frames), high, eps) : row[slots[j]]);
    });
  }

  template <class Block>
  DFOPS_HD void finish_whole(Block& block, const acc_t* row, const acc_t* v, acc_t limit, bool strict,
                             scalar_t* to) const {
    auto most = block.template local<key_t>();
    auto least = block.template local<key_t>();  // the complements, so that both are maxima
    block.each([&](int thread) {
      key_t up = 0, down = 0;
      for (int64_t p = thread; p < count; p += block.threads()) {
        const key_t key = key_of(is_masked(v[p], limit, strict) ? -acc_t(frames) : row[p]);
        up = key > up ? key : up;
        down = key_t(~key) > down ? key_t(~key) : down;
      }
      most[thread] = up;
      least[thread] = down;
    });
    const acc_t high = value_of<acc_t>(block.max(most));
    const acc_t lowest = value_of<acc_t>(key_t(~block.max(least)));
    const acc_t low = high != high ? high : lowest;
    block.each([&](int thread) {
      for (int64_t p = thread; p < count; p += block.threads()) {
        const acc_t m = is_masked(v[p], limit, strict) ? -acc_t(frames) : row[p];
        to[p] = scalar_t(normalize ? normalized_at(m, low, high, eps) : m);
      }
    });
  }
};

// ---- The gradient
// ----------------------------------------------------------------------------------------------------

// Which of `count` positions (or slots) a clip keeps: those with a slot, or under "lt" those not masked.
template <class acc_t>
struct Kept {
  const int64_t* positions;           // (B, count), or null
  const acc_t *variance, *threshold;  // (B, count) and (B,) where positions is null
  int64_t count;

  DFOPS_HD bool operator()(int64_t b, int64_t p) const {
    if (positions != nullptr) return positions[b * count + p] >= 0;
    return !is_masked(variance[b * count + p], threshold[b], true);
  }
};

// Gradient of s (B, T, N) from `grad` (B, T, N) of the normalised values; one block a frame. Of several positions at
// the maximum the first takes its gradient, likewise at the minimum when nothing is masked.
template <class scalar_t>
struct GradSBody {
  using acc_t = acc_type<scalar_t>;
  using key_t = key_type<acc_t>;

  acc_t* grad_s;
  const scalar_t* grad;
  const acc_t* s;
  Kept<acc_t> kept;
  int64_t frames;
  bool normalize;
  acc_t eps;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const int64_t row = block.index(), b = row / frames, count = kept.count;
    const acc_t* const values = s + row * count;
    const scalar_t* const upstream = grad + row * count;
    acc_t* const to = grad_s + row * count;
    if (!normalize) {
      block.each([&](int thread) {
        for (int64_t p = thread; p < count; p += block.threads()) to[p] = kept(b, p) ? acc_t(upstream[p]) : acc_t(0);
      });
      return;
    }
    auto most = block.template local<key_t>();
    auto least = block.template local<key_t>();
    auto masked = block.template local<int>();
    block.each([&](int thread) {
      key_t up = 0, down = 0;
      masked[thread] = kept.positions != nullptr;  // the threshold itself is masked under "le"
      for (int64_t p = thread; p < count; p += block.threads()) {
        if (!kept(b, p)) {
          masked[thread] = 1;
          continue;
        }
        const key_t key = key_of(values[p]);
        up = key > up ? key : up;
        down = key_t(~key) > down ? key_t(~key) : down;
      }
      most[thread] = up;
      least[thread] = down;
    });
    const bool all_kept = block.max(masked) == 0;
    const key_t high_key = block.max(most), low_key = key_t(~block.max(least));
    const acc_t high = value_of<acc_t>(high_key);
    const acc_t low = high != high ? high : all_kept ? value_of<acc_t>(low_key) : -acc_t(frames);
    const acc_t span = high - low + eps;
    auto to_high = block.template local<acc_t>();
    auto to_low = block.template local<acc_t>();
    auto first_high = block.template local<int64_t>();  // counted from the end, so that the first is the largest
    auto first_low = block.template local<int64_t>();
    block.each([&](int thread) {
      acc_t sum_high = 0, sum_low = 0;
      int64_t at_high = -1, at_low = -1;
      for (int64_t p = thread; p < count; p += block.threads()) {
        if (!kept(b, p)) continue;
        const acc_t share = acc_t(upstream[p]) / span, norm = (values[p] - low) / span;
        sum_high += share * norm;
        sum_low += share * (norm - 1);
        if (at_high < 0 && key_of(values[p]) == high_key) at_high = count - 1 - p;
        if (at_low < 0 && key_of(values[p]) == low_key) at_low = count - 1 - p;
      }
      to_high[thread] = sum_high;
      to_low[thread] = sum_low;
      first_high[thread] = at_high;
      first_low[thread] = at_low;
    });
    const acc_t total_high = block.sum(to_high), total_low = block.sum(to_low);
    const int64_t highest = count - 1 - block.max(first_high), lowest = count - 1 - block.max(first_low);
    block.each([&](int thread) {
      for (int64_t p = thread; p < count; p += block.threads()) {
        acc_t g = 0;
        if (kept(b, p)) {
          g = acc_t(upstream[p]) / span;
          if (p == highest) g -= total_high;
          if (all_kept && p == lowest) g += total_low;
        }
        to[p] = g;
      }
    });
  }
};

// Gradients of query and key from grad_s (B, T, N); zeros where nothing is kept. Tiles without a survivor are only
// written.
template <class scalar_t>
struct GradBody {
  using acc_t = acc_type<scalar_t>;

  Clip<scalar_t> grad_query, grad_key;
  Clip<const scalar_t> query, key;
  const acc_t* grad_s;
  Kept<acc_t> kept;
  acc_t* workspace;
  int64_t clips;

  DFOPS_HD static int64_t scratch_rows(int64_t frames, int64_t channels) { return 2 * channels + 4 * frames; }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const int64_t frames = query.frames, channels = query.channels, positions = query.positions;
    const int64_t tiles = ceil_div(positions, kWarp);
    const int rows = block.threads() / kWarp;
    acc_t* const total = scratch_of(block, workspace, scratch_rows(frames, channels));
    acc_t *const back = total + channels * kWarp, *const weight = back + channels * kWarp;
    acc_t *const along = weight + frames * kWarp, *const key_inverse = along + frames * kWarp;
    acc_t* const key_along = key_inverse + frames * kWarp;  // first 1 / |k| or 0, then k . Q times that over |k|
    auto live = block.template local<int>();
    for (int64_t tile = block.index(); tile < clips * tiles; tile += block.count()) {
      const int64_t b = tile / tiles, first = tile % tiles * kWarp;
      block.each([&](int thread) {
        const int64_t p = first + thread % kWarp;
        live[thread] = p < positions && kept(b, p);
      });
      if (block.max(live) == 0) {
        block.each([&](int thread) {
          fill_zero(grad_query, b, first, thread, block.threads());
          fill_zero(grad_key, b, first, thread, block.threads());
        });
        continue;
      }
      block.each([&](int thread) {
        const int lane = thread % kWarp;
        if (!live[thread]) return;
        for (int64_t t = thread / kWarp; t < frames; t += rows) {
          const acc_t square = square_of(key, b, t, first + lane);
          key_inverse[t * kWarp + lane] = inverse_norm(square);
          key_along[t * kWarp + lane] = slope_of_norm(square, key_inverse[t * kWarp + lane]);
        }
      });
      add_up(block, key, b, first, live, key_inverse, total);
      block.each([&](int thread) {
        const int lane = thread % kWarp;
        if (!live[thread]) return;
        for (int64_t t = thread / kWarp; t < frames; t += rows) {
          const acc_t square = square_of(query, b, t, first + lane), inverse = inverse_norm(square);
          along[t * kWarp + lane] =
              dot_with(total, query, b, t, first, lane) * inverse * slope_of_norm(square, inverse);
          weight[t * kWarp + lane] = grad_s[(b * frames + t) * positions + first + lane] * inverse;
        }
      });
      add_up(block, query, b, first, live, weight, back);
      block.each([&](int thread) {
        const int lane = thread % kWarp;
        if (!live[thread]) return;
        for (int64_t t = thread / kWarp; t < frames; t += rows)
          key_along[t * kWarp + lane] *= dot_with(back, key, b, t, first, lane) * key_inverse[t * kWarp + lane];
      });
      block.each([&](int thread) {
        const int lane = thread % kWarp;
        if (first + lane >= positions) return;
        for (int64_t i = thread / kWarp; i < frames * channels; i += rows) {
          const int64_t t = i / channels, c = i % channels, here = t * kWarp + lane;
          acc_t to_query = 0, to_key = 0;
          if (live[thread]) {
            const acc_t x = value_at(query, b, t, c, first + lane), y = value_at(key, b, t, c, first + lane);
            to_query = -weight[here] * (total[c * kWarp + lane] - along[here] * x);
            to_key = -key_inverse[here] * (back[c * kWarp + lane] - key_along[here] * y);
          }
          place(grad_query, b, t, c, first + lane) = scalar_t(to_query);
          place(grad_key, b, t, c, first + lane) = scalar_t(to_key);
        }
      });
    }
  }

 private:
  DFOPS_HD static scalar_t& place(const Clip<scalar_t>& clip, int64_t b, int64_t t, int64_t c, int64_t p) {
    return clip.frame(b, t)[c * clip.channel_step() + p * clip.position_step()];
  }
  DFOPS_HD static acc_t value_at(const Clip<const scalar_t>& clip, int64_t b, int64_t t, int64_t c, int64_t p) {
    return acc_t(clip.frame(b, t)[c * clip.channel_step() + p * clip.position_step()]);
  }
  DFOPS_HD static acc_t square_of(const Clip<const scalar_t>& clip, int64_t b, int64_t t, int64_t p) {
    acc_t sum = 0;
    for (int64_t c = 0; c < clip.channels; ++c) {
      const acc_t x = value_at(clip, b, t, c, p);
      sum += x * x;
    }
    return sum;
  }
  DFOPS_HD static acc_t dot_with(const acc_t* rows, const Clip<const scalar_t>& clip, int64_t b, int64_t t,
                                 int64_t first, int lane) {
    acc_t sum = 0;
    for (int64_t c = 0; c < clip.channels; ++c) sum += value_at(clip, b, t, c, first + lane) * rows[c * kWarp + lane];
    return sum;
  }

  // to[c] = sum over frames of factor[t] * clip[t, c]; rows run over channels.
  template <class Block, class Live>
  DFOPS_HD static void add_up(Block& block, const Clip<const scalar_t>& clip, int64_t b, int64_t first, Live& live,
                              const acc_t* factor, acc_t* to) {
    block.each([&](int thread) {
      const int lane = thread % kWarp;
      if (!live[thread]) return;
      for (int64_t c = thread / kWarp; c < clip.channels; c += block.threads() / kWarp) {
        acc_t sum = 0;
        for (int64_t t = 0; t < clip.frames; ++t)
          sum += value_at(clip, b, t, c, first + lane) * factor[t * kWarp + lane];
        to[c * kWarp + lane] = sum;
      }
    });
  }

  // In the order of memory.
  DFOPS_HD static void fill_zero(const Clip<scalar_t>& clip, int64_t b, int64_t first, int thread, int threads) {
    const int64_t lanes = min64(kWarp, clip.positions - first);
    for (int64_t t = 0; t < clip.frames; ++t) {
      scalar_t* const frame = clip.frame(b, t);
      if (clip.channels_last) {
        for (int64_t i = thread; i < lanes * clip.channels; i += threads)
          frame[first * clip.channels + i] = scalar_t(0.0f);
      } else {
        for (int64_t c = thread / kWarp; c < clip.channels; c += threads / kWarp)
          if (thread % kWarp < lanes) frame[c * clip.positions + first + thread % kWarp] = scalar_t(0.0f);
      }
    }
  }
};

}  // namespace dfops::difference
