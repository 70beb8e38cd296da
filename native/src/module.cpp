// The Python module: takes arrays in, checks them, and calls the encoder without the interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "encoder.h"
#include "isa.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace octavo {
namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class T>
std::vector<T> copied(const Vector<T>& array) {
  return {array.data(), array.data() + array.shape(0)};
}

template <class T>
std::vector<T> copied(const Matrix<T>& array) {
  const nb::gil_scoped_release unlocked;  // tables of words are large, and others serve meanwhile
  return {array.data(), array.data() + array.shape(0) * array.shape(1)};
}

LinearSource linear_source(Matrix<std::int8_t> weight, Vector<float> weight_scale, Vector<float> bias,
                           std::optional<float> input_scale, std::optional<Vector<float>> input_factor) {
  LinearSource linear{weight.shape(0),       weight.shape(1), copied(weight), copied(weight_scale), copied(bias), {},
                      input_scale};
  if (input_factor) linear.input_factor = copied(*input_factor);
  return linear;
}

LayerNormSource layer_norm_source(Vector<float> weight, Vector<float> bias, float epsilon) {
  return {copied(weight), copied(bias), epsilon};
}

DenseSource dense_source(Matrix<float> weight, Vector<float> bias) {
  return {weight.shape(1), weight.shape(0), copied(weight), copied(bias)};
}

ModelSource model_source(Matrix<float> words, Matrix<float> positions, LayerNormSource norm,
                         std::vector<LayerSource> layers, std::size_t heads, Activation activation, Reads reads,
                         std::optional<DenseSource> dense, Activation dense_activation,
                         std::optional<DenseSource> output, bool normalize, std::int64_t position_offset,
                         std::int64_t segment_stride, std::int64_t max_length) {
  if (words.shape(1) != positions.shape(1))
    throw std::invalid_argument("the tables of words and positions differ in width");
  ModelSource model;
  model.hidden = words.shape(1);
  model.heads = heads;
  model.activation = activation;
  model.reads = reads;
  model.normalize = normalize;
  model.dense_activation = dense_activation;
  model.position_offset = position_offset;
  model.segment_stride = segment_stride;
  model.max_length = max_length;
  model.vocabulary = words.shape(0);
  model.positions = positions.shape(0);
  model.words = copied(words);
  model.position_table = copied(positions);
  model.embedding_norm = std::move(norm);
  model.layers = std::move(layers);
  model.dense = std::move(dense);
  model.output = std::move(output);
  return model;
}

// Threads that are asked for, or as many as this process may use.
std::size_t thread_count(std::optional<std::size_t> threads) {
  const std::size_t count = threads.value_or(std::thread::hardware_concurrency());
  return std::max<std::size_t>(count, 1);
}

using Output = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

Output run(Encoder& encoder, Vector<std::int64_t> ids, Vector<std::int64_t> offsets,
           std::optional<Vector<std::int64_t>> segments, std::optional<Vector<std::int64_t>> reads) {
  if (offsets.shape(0) == 0) throw std::invalid_argument("offsets are empty; they hold at least a 0");
  if (segments && segments->shape(0) != ids.shape(0))
    throw std::invalid_argument("there are " + std::to_string(segments->shape(0)) + " segments for " +
                                std::to_string(ids.shape(0)) + " tokens");
  const Batch batch{ids.data(),
                    ids.shape(0),
                    offsets.data(),
                    offsets.shape(0) - 1,
                    segments ? segments->data() : nullptr,
                    reads ? reads->data() : nullptr,
                    reads ? reads->shape(0) : 0};
  encoder.check(batch);
  const std::size_t rows = encoder.outputs(batch), width = encoder.width();
  auto* values = new float[std::max<std::size_t>(rows * width, 1)];
  nb::capsule owner(values, [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
  {
    const nb::gil_scoped_release unlocked;
    encoder.run(batch, values);
  }
  return Output(values, {rows, width}, owner);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : available_kernels()) names.emplace_back(kernels->name);
  return names;
}

}  // namespace
}  // namespace octavo

NB_MODULE(_native, module) {
  using namespace octavo;
  module.doc() = "INT8 encoders on the CPU: packed batches in, head outputs out.";
  nb::enum_<Activation>(module, "Activation")
      .value("GELU", Activation::gelu)
      .value("GELU_TANH", Activation::gelu_tanh)
      .value("RELU", Activation::relu)
      .value("TANH", Activation::tanh);
  nb::enum_<Reads>(module, "Reads")
      .value("ONE", Reads::one)
      .value("MEAN", Reads::mean)
      .value("WORDS", Reads::words);
  nb::class_<LinearSource>(module, "Linear");
  nb::class_<LayerNormSource>(module, "LayerNorm");
  nb::class_<DenseSource>(module, "Dense");
  nb::class_<LayerSource>(module, "Layer");
  nb::class_<ModelSource>(module, "Model");
  module.def("linear", linear_source, "weight"_a, "weight_scale"_a, "bias"_a, "input_scale"_a.none(),
             "input_factor"_a.none());
  module.def("layer_norm", layer_norm_source, "weight"_a, "bias"_a, "epsilon"_a);
  module.def("dense", dense_source, "weight"_a, "bias"_a);
  module.def(
      "layer",
      [](std::vector<LinearSource> qkv, LinearSource attention_output, LayerNormSource attention_norm,
         LinearSource ffn1, LinearSource ffn2, LayerNormSource ffn_norm) {
        return LayerSource{std::move(qkv),  std::move(attention_output), std::move(attention_norm),
                           std::move(ffn1), std::move(ffn2),             std::move(ffn_norm)};
      },
      "qkv"_a, "attention_output"_a, "attention_norm"_a, "ffn1"_a, "ffn2"_a, "ffn_norm"_a);
  module.def("model", model_source, "words"_a, "positions"_a, "norm"_a, "layers"_a, "heads"_a, "activation"_a,
             "reads"_a, "dense"_a.none(), "dense_activation"_a, "output"_a.none(), "normalize"_a,
             "position_offset"_a, "segment_stride"_a, "max_length"_a);
  nb::class_<Encoder>(module, "Encoder")
      .def(
          "__init__",
          [](Encoder* self, const ModelSource& model, const std::string& isa, std::optional<std::size_t> threads) {
            new (self) Encoder(model, chosen_kernels(isa), thread_count(threads));
          },
          "model"_a, "isa"_a, "threads"_a.none(), nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("isa", [](const Encoder& encoder) { return encoder.kernels().name; })
      .def_prop_ro("threads", &Encoder::threads)
      .def_prop_ro("width", &Encoder::width)
      // noconvert: arrays of another type would be copied silently, and fractions cut off.
      .def("run", run, "ids"_a.noconvert(), "offsets"_a.noconvert(), "segments"_a.none().noconvert(),
           "reads"_a.none().noconvert());
  module.def("instruction_sets", instruction_sets);
  // For measurements: products that nothing holds up, on this thread. Returns how many were done.
  module.def(
      "spin", [](const std::string& isa, std::uint64_t rounds) { return chosen_kernels(isa).spin(rounds); }, "isa"_a,
      "rounds"_a, nb::call_guard<nb::gil_scoped_release>());
}
