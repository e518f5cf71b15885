// Tables of text that give up columns, the least important first, until they fit.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace polykv {

struct Column {
  std::string title;
  int importance = 0;   // 0 stays whatever the width
  bool number = false;  // set at the right
};

struct TextTable {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // [rows][columns]
};

// One line per row, the titles first. columns: of the terminal, 0 = any number.
std::vector<std::string> table_lines(const TextTable& table, size_t columns);

std::string fixed(double value, int digits);  // so many after the point

// What a stranger's text may do to a terminal: control characters become '?'.
std::string printable(std::string_view text);
// Cut to so many characters, 0 = uncut; a cut ends in "…".
std::string cut(const std::string& line, size_t columns);
size_t width_of(std::string_view text);  // characters of UTF-8 text

}  // namespace polykv
