# Language, warnings and switches for every room. polykv_room() makes a room's library.
option(POLYKV_TESTS "Build the tests" ON)
option(POLYKV_TORCH "Build the writer's prefill with libtorch" ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(POLYKV_CCACHE ccache)
if(POLYKV_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${POLYKV_CCACHE})
endif()

add_library(polykv_flags INTERFACE)
target_compile_options(polykv_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                                              -Wno-sign-conversion -Werror)
target_include_directories(polykv_flags INTERFACE ${PROJECT_SOURCE_DIR})

# polykv_room(NAME SOURCES a.cpp … [LINK lib …]): static library polykv_NAME.
function(polykv_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINK" ${ARGN})
  add_library(polykv_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(polykv_${name} PUBLIC ${ROOM_LINK} PRIVATE polykv_flags)
  target_include_directories(polykv_${name} PUBLIC ${PROJECT_SOURCE_DIR})
endfunction()
