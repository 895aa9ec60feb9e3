module skiff/integration/cni-portproxy

go 1.26
