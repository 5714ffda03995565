// Block-level kernels of latent_augment and latent_augment_mix. Forward: statistics in one launch, two per channel,
// then the transformation, in which every block finds the farthest row again from what they left. Backward: one launch,
// two per channel. Sums over many elements are taken by `lanes` threads side by side and added up in a fixed order.
#pragma once

#include <type_traits>

#include "common/blocks.h"
#include "common/strip.h"
#include "latent_augment/latent_augment.h"

namespace dfops::augment {

constexpr int kThreads = 256;

// `width` items at a time, each shared by `lanes` threads; neighbouring threads are lanes of an item, or items.
struct Team {
  int width, lanes;
  bool items_fastest;

  DFOPS_HD int item(int thread) const { return items_fastest ? thread % width : thread / lanes; }
  DFOPS_HD int lane(int thread) const { return items_fastest ? thread / width : thread % lanes; }
  DFOPS_HD int thread(int item, int lane) const { return items_fastest ? lane * width + item : item * lanes + lane; }
  DFOPS_HD bool idle(int thread) const { return thread >= width * lanes; }
};

// The lanes of each of a few items: as many as the threads allow, but 8 side by side at least.
DFOPS_HD Team team_for(int64_t items, int threads) {
  int lanes = threads;
  while (lanes > 8 && lanes / 2 * items >= threads) lanes /= 2;
  return {threads / lanes, lanes, false};
}

// Takes each item's shares from its lanes and hands their sum on; `shares` is a shared array with a value a thread.
template <class acc_t, class Block, class Share, class Take>
DFOPS_HD void sum_items(Block& block, acc_t* shares, const Team& team, int64_t items, const Share& share,
                        const Take& take) {
  for (int64_t first = 0; first < items; first += team.width) {
    block.each([&](int thread) {
      const int64_t item = first + team.item(thread);
      shares[thread] = team.idle(thread) || item >= items ? acc_t(0) : share(item, team.lane(thread));
    });
    block.each([&](int thread) {
      if (thread >= team.width || first + thread >= items) return;
      acc_t sum = 0;
      for (int lane = 0; lane < team.lanes; ++lane) sum += shares[team.thread(thread, lane)];
      take(first + thread, sum);
    });
  }
}

// The first row among the largest keys of the block; `row` and `key` are what each thread has found, -1 for nothing.
template <class Block, class Keys, class Rows>
DFOPS_HD int64_t farthest_of(Block& block, Keys& key, Rows& row, uint64_t* most) {
  *most = block.max(key);
  auto order = block.template local<uint64_t>();
  block.each(
      [&](int thread) { order[thread] = row[thread] >= 0 && key[thread] == *most ? ~uint64_t(row[thread]) : 0; });
  return int64_t(~block.max(order));
}

// Sample granularity. Block (domain, slice): the centroid of some elements, and each row's share of its distance.
template <class scalar_t>
struct SampleStatisticsBody {
  using acc_t = acc_type<scalar_t>;
  acc_t *centroid, *shares;  // (D, C, H, W) as z lies, (D, slices, G)
  const scalar_t* z;
  const acc_t* given;  // may be null
  Sizes sizes;
  int64_t slices;

  static int64_t shared_bytes() { return kThreads * int64_t(sizeof(acc_t)); }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t domain = block.index() / slices, length = ceil_div(s.map(), slices);
    const int64_t begin = min64(s.map(), block.index() % slices * length), end = min64(s.map(), begin + length);
    acc_t* mean = centroid + domain * s.map();
    acc_t* sums = block.template shared<acc_t>(block.threads());
    block.each([&](int thread) {
      for (int64_t i = begin + thread; i < end; i += block.threads()) {
        acc_t sum = 0;
        for (int64_t g = 0; g < s.groups; ++g) sum += acc_t(z[row_offset(s, domain, g) + i]);
        mean[i] = sum / acc_t(s.groups);
      }
    });
    const acc_t* from = given != nullptr ? given + domain * s.map() : mean;
    const Team team = team_for(s.groups, block.threads());
    sum_items(
        block, sums, team, s.groups,
        [&](int64_t g, int lane) {
          const scalar_t* row = z + row_offset(s, domain, g);
          acc_t sum = 0;
          for (int64_t i = begin + lane; i < end; i += team.lanes)
            sum += (acc_t(row[i]) - from[i]) * (acc_t(row[i]) - from[i]);
          return sum;
        },
        [&](int64_t g, acc_t sum) { shares[block.index() * s.groups + g] = sum; });
  }
};

// Block (map, 8 positions): sums (maps, H, W) over the channels, each times lam, or, where that is null, times 1. With
// lam only for maps that read rows, whose gradient the sums then are.
template <class scalar_t>
struct MapSumsBody {
  using acc_t = acc_type<scalar_t>;
  static constexpr int kPositions = 8;
  acc_t* sums;
  const scalar_t* maps;
  Draws<acc_t> draws;
  Sizes sizes;
  int64_t halves;
  bool weighted;

  static int64_t blocks(const Sizes& s) { return s.maps() * ceil_div(s.positions(), kPositions); }
  static int64_t shared_bytes() { return kThreads * int64_t(sizeof(acc_t)); }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const Steps steps = s.steps(halves);
    const int64_t tiles = ceil_div(s.positions(), kPositions), map = block.index() / tiles,
                  begin = block.index() % tiles * kPositions;
    if (weighted && !draws.reads_rows(draws.transform(s, map))) return;
    const Team team{kPositions, block.threads() / kPositions, !s.channels_last};
    sum_items(
        block, block.template shared<acc_t>(block.threads()), team, min64(kPositions, s.positions() - begin),
        [&](int64_t item, int lane) {
          const scalar_t* from = maps + map * steps.map + (begin + item) * steps.position;
          acc_t sum = 0;
          for (int64_t c = lane; c < s.channels; c += team.lanes)
            sum += (weighted ? draws.lam[map * s.channels + c] : acc_t(1)) * acc_t(from[c * steps.channel]);
          return sum;
        },
        [&](int64_t item, acc_t sum) { sums[map * s.positions() + begin + item] = sum; });
  }
};

// Channel granularity. Block (map, 32 channels): the farthest of these rows. The first block of a domain writes its
// centroid.
template <class scalar_t>
struct ChannelDistancesBody {
  using acc_t = acc_type<scalar_t>;
  static constexpr int kChannels = 32;
  acc_t* centroid;  // (D, H, W)
  uint64_t* keys;   // (maps, tiles), and the rows
  int64_t* rows;
  const acc_t* sums;  // (maps, H, W)
  const scalar_t* z;
  const acc_t* given;  // may be null
  Sizes sizes;

  static DFOPS_HD int64_t tiles(const Sizes& s) { return ceil_div(s.channels, kChannels); }
  static int64_t shared_bytes() { return 2 * kThreads * int64_t(sizeof(acc_t)); }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const Steps steps = s.steps(1);
    const int64_t map = block.index() / tiles(s), channel = block.index() % tiles(s) * kChannels,
                  domain = map % s.domains, positions = s.positions();
    const Team team{kChannels, block.threads() / kChannels, s.channels_last};
    acc_t* mean = block.template shared<acc_t>(block.threads());
    acc_t* shares = block.template shared<acc_t>(block.threads());
    auto distance = block.template local<acc_t>();
    block.each([&](int thread) { distance[thread] = 0; });
    for (int64_t first = 0; first < positions; first += block.threads()) {
      const int64_t count = min64(block.threads(), positions - first);
      block.each([&](int thread) {
        const int64_t p = domain * positions + first + thread;
        if (thread >= count) return;
        acc_t sum = 0;
        for (int64_t g = 0; g < s.groups; ++g) sum += sums[g * s.domains * positions + p];
        sum /= acc_t(s.rows());
        if (block.index() == domain * tiles(s)) centroid[p] = sum;
        mean[thread] = given != nullptr ? given[p] : sum;
      });
      block.each([&](int thread) {
        const int64_t c = channel + team.item(thread);
        if (c >= s.channels) return;
        const scalar_t* row = z + map * steps.map + c * steps.channel + first * steps.position;
        for (int64_t i = team.lane(thread); i < count; i += team.lanes) {
          const acc_t difference = acc_t(row[i * steps.position]) - mean[i];
          distance[thread] += difference * difference;
        }
      });
    }
    auto key = block.template local<uint64_t>();
    auto row = block.template local<int64_t>();
    block.each([&](int thread) {
      key[thread] = 0;
      row[thread] = -1;
    });
    sum_items(
        block, shares, team, kChannels, [&](int64_t item, int lane) { return distance[team.thread(int(item), lane)]; },
        [&](int64_t item, acc_t sum) {
          if (channel + item >= s.channels) return;
          key[int(item)] = distance_key(sum);  // sums are taken by the first threads, one each
          row[int(item)] = map / s.domains * s.channels + channel + item;
        });
    uint64_t most = 0;
    const int64_t farthest = farthest_of(block, key, row, &most);
    block.each([&](int thread) {
      if (thread > 0) return;
      keys[block.index()] = most;
      rows[block.index()] = farthest;
    });
  }
};

// A few neighbouring channels of one position: what a thread moves at a time, so that coordinates of a rotation serve
// all of them. Where channels vary fastest and the pack allows it (kVector), by one load or store.
template <class scalar_t, bool kVector>
struct Channels {
  using acc_t = acc_type<scalar_t>;
  static constexpr int kPack = 16 / sizeof(scalar_t);
  using pack_t = Pack<acc_t, kPack>;
  int64_t step;
  int count;

  template <class T>
  DFOPS_HD pack_t load(const T* from) const {
    if constexpr (kVector && sizeof(T) == sizeof(scalar_t)) {
      return load_pack<acc_t, T, kPack>(from);
    } else {
      pack_t values{};
      for (int k = 0; k < kPack; ++k)
        if (k < count) values.values[k] = acc_t(from[k * step]);
      return values;
    }
  }
  DFOPS_HD void store(scalar_t* to, const pack_t& values) const {
    if constexpr (kVector) {
      store_pack<scalar_t, acc_t, kPack>(to, values);
    } else {
      for (int k = 0; k < kPack; ++k)
        if (k < count) to[k * step] = scalar_t(values.values[k]);
    }
  }

  static DFOPS_HD int64_t packs(const Sizes& s) { return ceil_div(s.channels, kPack); }
  static DFOPS_HD int64_t items(const Sizes& s) { return s.positions() * packs(s); }

  // Item i of a map: its position and first channel.
  struct Item {
    int64_t position, channel;
  };
  static DFOPS_HD Item item(const Sizes& s, int64_t i) {
    const int64_t inner = s.channels_last ? packs(s) : s.positions();
    const int64_t outer = quotient(i, inner), rest = i - outer * inner;
    if (s.channels_last) return {outer, rest * kPack};
    return {rest, outer * kPack};
  }
  DFOPS_HD Channels(const Sizes& s, const Item& item)
      : step(s.steps(1).channel), count(int(min64(kPack, s.channels - item.channel))) {}
};

template <class acc_t, int kPack, class F>
DFOPS_HD Pack<acc_t, kPack> pack_of(const F& f) {
  Pack<acc_t, kPack> values;
  for (int k = 0; k < kPack; ++k) values.values[k] = f(k);
  return values;
}

// to += factor * values, the factor of any arithmetic type.
template <class acc_t, int kPack>
DFOPS_HD void add(Pack<acc_t, kPack>& to, std::common_type_t<acc_t> factor, const Pack<acc_t, kPack>& values) {
  for (int k = 0; k < kPack; ++k) to.values[k] += factor * values.values[k];
}

// Block (map, slice): the augmented map, and with mix_lam the mixed one. The first block of a domain writes its
// farthest row.
template <class scalar_t, bool kVector>
struct TransformBody {
  using acc_t = acc_type<scalar_t>;
  using channels_t = Channels<scalar_t, kVector>;
  using pack_t = typename channels_t::pack_t;
  scalar_t* out;
  int64_t* hard_index;
  const scalar_t *z, *noise;
  const acc_t* centroid;  // of id 1: the given one, or that of the batch
  const acc_t* shares;    // sample granularity: (D, shares_of_row, G)
  const uint64_t* keys;   // channel granularity: (maps, candidates), and the rows
  const int64_t* rows;
  int64_t shares_of_row, candidates, slices, halves;
  Draws<acc_t> draws;
  Sizes sizes;

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const int64_t map = block.index() / slices, slice = block.index() % slices, domain = map % s.domains,
                  id = draws.transform(s, map);
    const bool first_block = map == domain && slice == 0;
    const int64_t hard = id == kInterpolate || first_block ? farthest_row(block, domain) : 0;
    block.each([&](int thread) {
      if (first_block && thread == 0) hard_index[domain] = hard;
      const int64_t step = slices * block.threads();
      for (int64_t i = slice * block.threads() + thread; i < channels_t::items(s); i += step)
        transform(id, map, hard, channels_t::item(s, i));
    });
  }

  template <class Block>
  DFOPS_HD int64_t farthest_row(Block& block, int64_t domain) const {
    const Sizes& s = sizes;
    auto key = block.template local<uint64_t>();
    auto row = block.template local<int64_t>();
    block.each([&](int thread) {
      uint64_t most = 0;
      int64_t found = -1;
      const auto see = [&](uint64_t other, int64_t number) {
        if (found >= 0 && other <= most) return;
        most = other;
        found = number;
      };
      if (s.per_channel)
        for (int64_t i = thread; i < s.groups * candidates; i += block.threads()) {
          const int64_t at = (i / candidates * s.domains + domain) * candidates + i % candidates;
          see(keys[at], rows[at]);
        }
      else
        for (int64_t g = thread; g < s.groups; g += block.threads()) {
          acc_t distance = 0;
          for (int64_t k = 0; k < shares_of_row; ++k) distance += shares[(domain * shares_of_row + k) * s.groups + g];
          see(distance_key(distance), g);
        }
      key[thread] = most;
      row[thread] = found;
    });
    uint64_t most = 0;
    return farthest_of(block, key, row, &most);
  }

  DFOPS_HD void transform(int64_t id, int64_t map, int64_t hard, const typename channels_t::Item& item) const {
    constexpr int kPack = channels_t::kPack;
    const Sizes& s = sizes;
    const Steps from = s.steps(1), to = s.steps(halves);
    const channels_t channels(s, item);
    const int64_t domain = map % s.domains, in_map = item.position * from.position + item.channel * from.channel;
    scalar_t* target = out + map * to.map + item.position * to.position + item.channel * to.channel;
    const pack_t own = channels.load(z + map * from.map + in_map);
    // a row at this position; one of a channel is the same for all channels
    const auto row = [&](int64_t number) {
      const scalar_t* first = z + row_offset(s, domain, number);
      if (!s.per_channel) return channels.load(first + in_map);
      const acc_t value = acc_t(first[item.position * from.position]);
      return pack_of<acc_t, kPack>([&](int) { return value; });
    };
    // out = z + lam (x - y)
    const auto store_moved = [&](const pack_t& x, const pack_t& y) {
      channels.store(target, pack_of<acc_t, kPack>([&](int k) {
                       if (k >= channels.count) return acc_t(0);
                       return own.values[k] + draws.scale(s, id, map, item.channel + k) * (x.values[k] - y.values[k]);
                     }));
    };
    if (id == kInterpolate) {
      store_moved(row(hard), own);
    } else if (id == kExtrapolate) {
      const acc_t* mean = centroid + domain * s.row();
      store_moved(own, s.per_channel ? pack_of<acc_t, kPack>([&](int) { return mean[item.position]; })
                                     : channels.load(mean + in_map));
    } else if (id == kAdd) {
      store_moved(channels.load(noise + map * from.map + in_map), pack_t{});
    } else if (id == kDifference) {
      const int64_t first = s.per_channel ? map / s.domains * s.channels : 0;
      store_moved(row(first), row(first + 1));
    } else if (id == kRotate) {
      channels.store(target, rotated(map, item, channels));
    } else {
      channels.store(target, own);
    }
    if (halves == 1) return;
    const acc_t weight = draws.mix_weight(s, map);
    const pack_t other = channels.load(z + (map - domain + draws.partner(s, map)) * from.map + in_map);
    channels.store(target + to.half, pack_of<acc_t, kPack>([&](int k) {
                     return weight * own.values[k] + (1 - weight) * other.values[k];
                   }));
  }

  DFOPS_HD pack_t rotated(int64_t map, const typename channels_t::Item& item, const channels_t& channels) const {
    const Sizes& s = sizes;
    const Steps from = s.steps(1);
    const Rotation<acc_t> rotation(draws.angle[map], s.height, s.width);
    const int64_t y = quotient(item.position, s.width);
    pack_t sum{};
    rotation.around(rotation.source(y, item.position - y * s.width),
                    [&](int, int64_t offset, acc_t by_row, acc_t by_col) {
                      const int64_t at = offset * from.position + item.channel * from.channel;
                      add(sum, by_row * by_col, channels.load(z + map * from.map + at));
                    });
    return sum;
  }
};

// Block (domain, tile of items): what depends on all groups is summed by lanes that take different groups, then each
// lane writes its groups.
template <class scalar_t, bool kVector>
struct BackwardBody {
  using acc_t = acc_type<scalar_t>;
  using channels_t = Channels<scalar_t, kVector>;
  using pack_t = typename channels_t::pack_t;
  static constexpr int kMostLanes = 8, kSums = 3;
  scalar_t* grad_z;
  const scalar_t* grad;
  const int64_t* hard_index;
  const acc_t* map_sums;  // channel granularity: (maps, H, W), of maps that read rows
  Draws<acc_t> draws;
  Sizes sizes;
  int64_t halves;
  bool detach;

  static DFOPS_HD Team team(const Sizes& s, int threads) {
    const int lanes = int(min64(s.groups, kMostLanes));
    return {threads / lanes, lanes, true};
  }
  static int64_t blocks(const Sizes& s) { return s.domains * ceil_div(channels_t::items(s), team(s, kThreads).width); }
  static int64_t shared_bytes() { return kSums * kThreads * int64_t(sizeof(pack_t)); }

  template <class Block>
  DFOPS_HD void operator()(Block& block) const {
    const Sizes& s = sizes;
    const Team team = BackwardBody::team(s, block.threads());
    const int64_t tiles = ceil_div(channels_t::items(s), team.width), domain = block.index() / tiles,
                  first = block.index() % tiles * team.width;
    const auto idle = [&](int thread) {
      return team.idle(thread) || first + team.item(thread) >= channels_t::items(s);
    };
    // of the farthest row, of the sum of all rows, of z_j - z_k of id 3: (sums, threads)
    pack_t* sums = block.template shared<pack_t>(kSums * block.threads());
    block.each([&](int thread) {
      if (idle(thread)) return;
      pack_t own[kSums] = {};
      const auto item = channels_t::item(s, first + team.item(thread));
      for (int64_t g = team.lane(thread); g < s.groups; g += team.lanes) add_to_sums(own, g * s.domains + domain, item);
      for (int k = 0; k < kSums; ++k) sums[k * block.threads() + thread] = own[k];
    });
    block.each([&](int thread) {
      if (thread >= team.width || idle(thread)) return;
      for (int k = 0; k < kSums; ++k)
        for (int lane = 1; lane < team.lanes; ++lane)
          add(sums[k * block.threads() + thread], 1, sums[k * block.threads() + team.thread(thread, lane)]);
    });
    block.each([&](int thread) {
      if (idle(thread)) return;
      const auto item = channels_t::item(s, first + team.item(thread));
      for (int64_t g = team.lane(thread); g < s.groups; g += team.lanes)
        write(g, domain, item, sums + team.item(thread), block.threads());
    });
  }

  DFOPS_HD const scalar_t* grad_at(int64_t map, int64_t position, int64_t channel) const {
    const Steps steps = sizes.steps(halves);
    return grad + map * steps.map + position * steps.position + channel * steps.channel;
  }

  DFOPS_HD void add_to_sums(pack_t* sums, int64_t map, const typename channels_t::Item& item) const {
    const Sizes& s = sizes;
    const int64_t id = draws.transform(s, map);
    if (!draws.reads_rows(id) || (detach && id != kDifference)) return;
    if (id == kExtrapolate && draws.given_centroid) return;
    pack_t share{};
    if (!s.per_channel) {
      const channels_t channels(s, item);
      add(share, draws.lam[map], channels.load(grad_at(map, item.position, item.channel)));
    } else if (id != kDifference) {  // which stays within its map
      const acc_t value = map_sums[map * s.positions() + item.position];
      share = pack_of<acc_t, channels_t::kPack>([&](int) { return value; });
    }
    // indices the compiler knows, so that the sums stay in registers
    if (id == kInterpolate) add(sums[0], 1, share);
    if (id == kExtrapolate) add(sums[1], 1, share);
    if (id == kDifference) add(sums[2], 1, share);
  }

  // The gradient of one item of z[g, domain]; `sums` lie `step` apart.
  DFOPS_HD void write(int64_t g, int64_t domain, const typename channels_t::Item& item, const pack_t* sums,
                      int step) const {
    constexpr int kPack = channels_t::kPack;
    const Sizes& s = sizes;
    const Steps to = s.steps(1);
    const channels_t channels(s, item);
    const int64_t map = g * s.domains + domain, id = draws.transform(s, map);
    pack_t total{};
    if (id == kRotate) {
      const Rotation<acc_t> rotation(draws.angle[map], s.height, s.width);
      const int64_t y = quotient(item.position, s.width);
      rotation.readers(y, item.position - y * s.width, [&](int64_t position, acc_t weight) {
        add(total, weight, channels.load(grad_at(map, position, item.channel)));
      });
    } else {
      const pack_t own = channels.load(grad_at(map, item.position, item.channel));
      for (int k = 0; k < channels.count; ++k)
        total.values[k] = draws.own_factor(s, id, map, item.channel + k) * own.values[k];
    }
    add(total, -1 / acc_t(s.rows()), sums[step]);
    if (!s.per_channel) {
      if (hard_index[domain] == g) add(total, 1, sums[0]);
      if (g < 2) add(total, g == 0 ? 1 : -1, sums[2 * step]);
    } else {
      for (int k = 0; k < kPack; ++k) {
        const int64_t c = item.channel + k;
        if (hard_index[domain] == g * s.channels + c && k < channels.count) total.values[k] += sums[0].values[k];
        if (id == kDifference && c < 2)
          total.values[k] += (c == 0 ? 1 : -1) * map_sums[map * s.positions() + item.position];
      }
    }
    if (halves == 2) {
      const int64_t half = s.steps(2).half;
      add(total, draws.mix_weight(s, map), channels.load(grad_at(map, item.position, item.channel) + half));
      for (int64_t other = g * s.domains; other < (g + 1) * s.domains; ++other)
        if (draws.partner(s, other) == domain)
          add(total, 1 - draws.mix_weight(s, other), channels.load(grad_at(other, item.position, item.channel) + half));
    }
    channels.store(grad_z + map * to.map + item.position * to.position + item.channel * to.channel, total);
  }
};

}  // namespace dfops::augment
