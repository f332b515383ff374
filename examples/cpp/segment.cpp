// Segments an image with an exported file: segment MODEL.onnx IMAGE MASK.png
#include <iostream>
#include <openvino/openvino.hpp>
#include <regex>

#include "image.hpp"

// The numbers, in their order, of one of the JSON texts in a file's metadata.
std::vector<double> numbers(const std::shared_ptr<ov::Model>& model, const std::string& key) {
    const auto text = model->get_rt_info<std::string>("framework", key);
    const std::regex number("[0-9][0-9.eE+-]*");
    std::vector<double> found;
    for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at)
        found.push_back(std::stod(at->str()));
    return found;
}

void segment(const std::string& file, const std::string& input, const std::string& output) {
    ov::Core core;
    const auto model = core.read_model(file);
    const auto steps = numbers(model, "preprocessing");  // resize [height, width], cut_bottom, gamma
    const std::size_t height = steps.at(0), width = steps.at(1), rows = height - steps.at(2);
    const Image image = read_image(input);
    Bytes seen = resized(resized(image.rgb, image.height, image.width, width, 3), 1, image.height, height, 3 * width);
    for (auto& level : seen) level = std::lround(255 * std::pow(level / 255.0, steps.at(3)));

    const auto exact = ov::hint::inference_precision(ov::element::f32);  // not bf16 where the processor has it
    auto request = core.compile_model(model, "CPU", exact).create_infer_request();
    request.set_tensor("image", ov::Tensor(ov::element::u8, {1, rows, width, 3}, seen.data()));
    request.infer();
    const auto* mask = request.get_tensor("mask").data<std::uint8_t>();

    Bytes ids;  // of the image's own size, each of the nearest pixel; rows that the network does not see are 255, void
    double y = height / 2.0 / image.height;
    for (std::size_t i = 0; i < image.height; ++i, y += double(height) / image.height) {
        double x = width / 2.0 / image.width;
        for (std::size_t j = 0; j < image.width; ++j, x += double(width) / image.width)
            ids.push_back(y < rows ? mask[std::size_t(y) * width + std::size_t(x)] : 255);
    }
    const auto colours = numbers(model, "palette");  // [[red, green, blue], ...]
    Bytes palette(colours.begin(), colours.end());
    palette.resize(3 * 256);
    write_indexed(output, image, ids, palette);
}

int main(int count, char** arguments) {
    if (count != 4) return std::cerr << "usage: segment MODEL.onnx IMAGE MASK.png\n", 2;
    try {
        segment(arguments[1], arguments[2], arguments[3]);
    } catch (const std::exception& error) {
        return std::cerr << "error: " << error.what() << "\n", 1;
    }
}
