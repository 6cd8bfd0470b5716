module evidence

go 1.23
