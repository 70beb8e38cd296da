// Attention of one head over one sequence, in float, on its true length.
//
// Keys are taken in blocks, with the softmax kept running (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867;
// Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135), so that scratch does not grow with the square of
// the length. Queries of short sequences see one block and nothing is rescaled.
#pragma once

#include "elementary.h"
#include "kernels.h"

namespace octavo {
namespace {

constexpr std::size_t kQueryBlock = 8;
constexpr float kLeastScore = -1e30f;  // finite: a difference of two is no NaN

// Where a head's scratch is cut.
struct Scratch {
  float* keys;       // (head_size, kKeyBlock): transposed, so that lanes are keys
  float* values;     // (kKeyBlock, padded)
  float* context;    // (queries, padded), not yet divided by `sums`
  float* maxima;     // (queries,)
  float* sums;       // (queries,)
  std::size_t padded;  // head size

  explicit Scratch(const HeadOfSequence& head)
      : keys(head.scratch),
        values(keys + kKeyBlock * head.head_size),
        context(values + kKeyBlock * round_up(head.head_size, kFloatAlign)),
        maxima(context + head.queries * round_up(head.head_size, kFloatAlign)),
        sums(maxima + round_up(head.queries, kFloatAlign)),
        padded(round_up(head.head_size, kLanes)) {}
};

inline void gather_block(const HeadOfSequence& head, const Scratch& scratch, std::size_t first, std::size_t keys) {
  for (std::size_t j = 0; j < keys; ++j) {
    const float* key = head.key + (first + j) * head.stride;
    const float* value = head.value + (first + j) * head.stride;
    for (std::size_t c = 0; c < head.head_size; ++c) scratch.keys[c * kKeyBlock + j] = key[c];
    for (std::size_t c = 0; c < head.head_size; ++c) scratch.values[j * scratch.padded + c] = value[c];
    for (std::size_t c = head.head_size; c < scratch.padded; ++c) scratch.values[j * scratch.padded + c] = 0.0f;
  }
  const std::size_t padded_keys = round_up(keys, kLanes);
  for (std::size_t c = 0; c < head.head_size; ++c)
    for (std::size_t j = keys; j < padded_keys; ++j) scratch.keys[c * kKeyBlock + j] = 0.0f;
}

// Scores of some queries, turned into weights: exp(score - maximum). Updates maxima and sums, and rescales what has
// been summed in earlier blocks.
template <int kQueries>
inline void weigh(const HeadOfSequence& head, const Scratch& scratch, std::size_t query, std::size_t keys,
                  float (*weights)[kKeyBlock]) {
  const float* q = head.query + query * head.query_stride;
  for (std::size_t j = 0; j < keys; j += kLanes) {
    Floats scores[kQueries] = {};
    for (std::size_t c = 0; c < head.head_size; ++c) {
      const Floats k = load(scratch.keys + c * kKeyBlock + j);
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) scores[i] += q[i * head.query_stride + c] * k;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) store(weights[i] + j, scores[i]);
  }
  const std::size_t last = (keys - 1) / kLanes * kLanes;
  for (int i = 0; i < kQueries; ++i) {
    for (std::size_t j = keys; j < last + kLanes; ++j) weights[i][j] = kLeastScore;
    Floats largest = load(weights[i]);
    for (std::size_t j = kLanes; j < keys; j += kLanes) largest = larger(largest, load(weights[i] + j));
    const float before = scratch.maxima[query + i];
    const float now = largest_of(largest);
    const float maximum = now > before ? now : before;
    Floats sum{};
    for (std::size_t j = 0; j < keys; j += kLanes) {
      const Floats weight = exponential(load(weights[i] + j) - maximum);
      store(weights[i] + j, weight);
      sum += j < last ? weight : first_lanes(weight, keys - last);
    }
    float kept = 0.0f;
    if (before > kLeastScore) {
      kept = exponential(broadcast(before - maximum))[0];
      float* context = scratch.context + (query + i) * scratch.padded;
      for (std::size_t c = 0; c < scratch.padded; c += kLanes) store(context + c, load(context + c) * kept);
    }
    scratch.sums[query + i] = scratch.sums[query + i] * kept + sum_of(sum);
    scratch.maxima[query + i] = maximum;
  }
}

// context += weights * values
template <int kQueries>
inline void add_values(const Scratch& scratch, std::size_t query, std::size_t keys,
                       const float (*weights)[kKeyBlock]) {
  for (std::size_t c = 0; c < scratch.padded; c += kLanes) {
    float* context = scratch.context + query * scratch.padded + c;
    Floats sums[kQueries];
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) sums[i] = load(context + i * scratch.padded);
    for (std::size_t j = 0; j < keys; ++j) {
      const Floats v = load(scratch.values + j * scratch.padded + c);
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) sums[i] += weights[i][j] * v;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) store(context + i * scratch.padded, sums[i]);
  }
}

template <int kQueries>
inline void attend_queries(const HeadOfSequence& head, const Scratch& scratch, std::size_t query, std::size_t keys) {
  alignas(64) float weights[kQueries][kKeyBlock];
  weigh<kQueries>(head, scratch, query, keys, weights);
  add_values<kQueries>(scratch, query, keys, weights);
}

void attend(const HeadOfSequence& head) {
  const Scratch scratch(head);
  for (std::size_t i = 0; i < head.queries; ++i) {
    scratch.maxima[i] = kLeastScore;
    scratch.sums[i] = 0.0f;
  }
  for (std::size_t i = 0; i < head.queries * scratch.padded; ++i) scratch.context[i] = 0.0f;
  for (std::size_t first = 0; first < head.length; first += kKeyBlock) {
    const std::size_t keys = head.length - first < kKeyBlock ? head.length - first : kKeyBlock;
    gather_block(head, scratch, first, keys);
    std::size_t query = 0;
    for (; query + kQueryBlock <= head.queries; query += kQueryBlock)
      attend_queries<kQueryBlock>(head, scratch, query, keys);
    switch (head.queries - query) {
      case 7: attend_queries<7>(head, scratch, query, keys); break;
      case 6: attend_queries<6>(head, scratch, query, keys); break;
      case 5: attend_queries<5>(head, scratch, query, keys); break;
      case 4: attend_queries<4>(head, scratch, query, keys); break;
      case 3: attend_queries<3>(head, scratch, query, keys); break;
      case 2: attend_queries<2>(head, scratch, query, keys); break;
      case 1: attend_queries<1>(head, scratch, query, keys); break;
      default: break;
    }
  }
  for (std::size_t i = 0; i < head.queries; ++i) {
    const float inverse = 1.0f / scratch.sums[i];
    float* context = head.context + i * head.context_stride;
    for (std::size_t c = 0; c < head.head_size; ++c) context[c] = scratch.context[i * scratch.padded + c] * inverse;
  }
}

}  // namespace
}  // namespace octavo
