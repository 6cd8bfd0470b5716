module mapscope.example/samples

go 1.21
