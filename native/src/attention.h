// Attention of one head over one sequence, in float, on its true length.
//
// Queries are taken as many at a time as a vector has lanes, one in each lane, so that a softmax adds up whole vectors
// and none of them across. Keys are taken in blocks, with the softmax kept running (Milakov & Gimelshein 2018,
// https://arxiv.org/abs/1805.02867; Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135), so that scratch
// does not grow with the length. Short sequences have one block: their context never leaves the registers.
#pragma once

#include "elementary.h"
#include "kernels.h"

namespace octavo {
namespace {

constexpr std::size_t kTogether = 12;  // sums side by side: enough to hide a sum's latency, few enough for 16 registers
constexpr float kLeastScore = -1e30f;  // finite: a difference of two is no NaN

// A head's scratch, cut up.
struct Scratch {
  float* queries;  // (padded, kLanes): transposed, so that lanes are queries
  float* weights;  // (kKeyBlock, kLanes): of each key for each query
  float* context;  // (kLanes, padded): between blocks of keys, not yet divided by the sum of weights
  std::size_t padded;  // head size

  explicit Scratch(const HeadOfSequence& head)
      : queries(head.scratch),
        weights(queries + round_up(head.head_size, kFloatAlign) * kLanes),
        context(weights + kKeyBlock * kLanes),
        padded(round_up(head.head_size, kLanes)) {}
};

// A block of keys and their values.
struct Block {
  std::size_t keys;  // in it
  bool first, last;
  const float* key;
  const float* value;
};

// A group of queries, one in each lane, and how far they are.
struct Queries {
  std::size_t first, count;
  Floats maximum;  // of the scores so far
  Floats sum;      // of the weights so far, under that maximum
  Floats kept;     // share of what earlier blocks summed up that is left under the new maximum
};

template <std::size_t kSize>
struct Size {
  static constexpr std::size_t value = kSize;
};

// Calls use(first, Size<size>).
template <std::size_t kMost, class Use>
inline void with_size(std::size_t first, std::size_t size, Use use) {
  if constexpr (kMost > 1) {
    if (size < kMost) return with_size<kMost - 1>(first, size, use);
  }
  use(first, Size<kMost>());
}

// Calls use(first, Size) for groups of at most kTogether out of `count`, which is at most kMost, of nearly equal size.
// That is known when they are compiled, so that their sums stay in registers.
template <std::size_t kMost, class Use>
inline void in_groups(std::size_t count, Use use) {
  constexpr std::size_t kLargest = kMost < kTogether ? kMost : kTogether;
  const std::size_t groups = (count + kLargest - 1) / kLargest;
  for (std::size_t i = 0; i < groups; ++i) {
    const std::size_t first = count * i / groups;
    with_size<kLargest>(first, count * (i + 1) / groups - first, use);
  }
}

// One step of a transposition: rows that are kHalf apart swap halves of their runs of 2 * kHalf values.
template <std::size_t kHalf>
inline void swap_halves(Floats (&rows)[kLanes]) {
  Ints low, high;  // lanes of the two new rows: 0 to kLanes - 1 are the upper row's, the rest the lower row's
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const bool swaps = (lane & kHalf) != 0;
    low[lane] = static_cast<std::int32_t>(swaps ? lane - kHalf + kLanes : lane);
    high[lane] = static_cast<std::int32_t>(swaps ? lane + kLanes : lane + kHalf);
  }
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) {
    if ((i & kHalf) != 0) continue;
    const Floats upper = rows[i], lower = rows[i + kHalf];
    rows[i] = picked(upper, lower, low);
    rows[i + kHalf] = picked(upper, lower, high);
  }
  if constexpr (kHalf > 1) swap_halves<kHalf / 2>(rows);
}

// Turns a square of kLanes rows into columns. There are `count` rows to read; the others are zeros.
inline void transpose_square(const float* from, std::size_t stride, std::size_t count, float* to) {
  Floats rows[kLanes];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) rows[i] = i < count ? load(from + i * stride) : Floats{};
  swap_halves<kLanes / 2>(rows);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) store(to + i * kLanes, rows[i]);
}

// weights[j] = scores of key j, for `kKeys` keys.
template <std::size_t kKeys>
inline void score(const HeadOfSequence& head, const float* queries, const float* keys, float* weights) {
  Floats scores[kKeys] = {};
  for (std::size_t c = 0; c < head.head_size; ++c) {
    const Floats query = load(queries + c * kLanes);
#pragma GCC unroll 12
    for (std::size_t j = 0; j < kKeys; ++j) scores[j] += keys[j * head.stride + c] * query;
  }
#pragma GCC unroll 12
  for (std::size_t j = 0; j < kKeys; ++j) store(weights + j * kLanes, scores[j]);
}

// Replaces scores by exp(score - maximum), and brings the queries' maximum, sum and kept share up to date.
inline void exponentiate(float* weights, std::size_t keys, Queries& queries) {
  const Floats before = queries.maximum;
  for (std::size_t j = 0; j < keys; ++j) queries.maximum = larger(load(weights + j * kLanes), queries.maximum);
  queries.kept = exponential(before - queries.maximum);
  queries.sum *= queries.kept;
  for (std::size_t j = 0; j < keys; ++j) {
    const Floats weight = exponential(load(weights + j * kLanes) - queries.maximum);
    store(weights + j * kLanes, weight);
    queries.sum += weight;
  }
}

// Adds a block's values, weighted, to the context of `kQueries` queries, from lane `lane` on.
template <std::size_t kQueries>
inline void add_values(const HeadOfSequence& head, const Scratch& scratch, const Block& block, const Queries& queries,
                       std::size_t lane) {
  float kept[kLanes], inverse[kLanes];
  store(kept, queries.kept);
  store(inverse, 1.0f / queries.sum);
  const float* weights = scratch.weights + lane;
  for (std::size_t c = 0; c < scratch.padded; c += kLanes) {
    float* between = scratch.context + lane * scratch.padded + c;
    Floats sums[kQueries] = {};
    if (!block.first) {
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kQueries; ++i) sums[i] = load(between + i * scratch.padded) * kept[lane + i];
    }
    for (std::size_t j = 0; j < block.keys; ++j) {
      const Floats values = load(block.value + j * head.stride + c);
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kQueries; ++i) sums[i] += weights[j * kLanes + i] * values;
    }
    if (!block.last) {
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kQueries; ++i) store(between + i * scratch.padded, sums[i]);
      continue;
    }
    float* out = head.context + (queries.first + lane) * head.context_stride + c;
    const std::size_t left = head.head_size - c;
#pragma GCC unroll 12
    for (std::size_t i = 0; i < kQueries; ++i) {
      if (left >= kLanes) store(out + i * head.context_stride, sums[i] * inverse[lane + i]);
      else store_first(out + i * head.context_stride, sums[i] * inverse[lane + i], left);
    }
  }
}

inline void attend_block(const HeadOfSequence& head, const Scratch& scratch, const Block& block, Queries& queries) {
  in_groups<kKeyBlock>(block.keys, [&](std::size_t first, auto size) {
    score<decltype(size)::value>(head, scratch.queries, block.key + first * head.stride,
                                 scratch.weights + first * kLanes);
  });
  exponentiate(scratch.weights, block.keys, queries);
  in_groups<kLanes>(queries.count, [&](std::size_t first, auto size) {
    add_values<decltype(size)::value>(head, scratch, block, queries, first);
  });
}

void attend(const HeadOfSequence& head) {
  const Scratch scratch(head);
  for (std::size_t first = 0; first < head.queries; first += kLanes) {
    const std::size_t left = head.queries - first;
    Queries queries{first, left < kLanes ? left : kLanes, broadcast(kLeastScore), {}, {}};
    for (std::size_t c = 0; c < head.head_size; c += kLanes)
      transpose_square(head.query + first * head.query_stride + c, head.query_stride, queries.count,
                       scratch.queries + c * kLanes);
    for (std::size_t key = 0; key < head.length; key += kKeyBlock) {
      const std::size_t keys = head.length - key;
      attend_block(head, scratch,
                   {keys < kKeyBlock ? keys : kKeyBlock, key == 0, keys <= kKeyBlock, head.key + key * head.stride,
                    head.value + key * head.stride},
                   queries);
    }
  }
}

}  // namespace
}  // namespace octavo
