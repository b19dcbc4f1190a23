package anatomy

// The models that the tests count, with what their makers publish.

func gated(width int) MLP { return MLP{Width: width, Gated: true} }

// llama is the plain shape: RMSNorm, gated MLP, no biases, heads that share keys.
func llama(name string, layers, hidden, heads, kv, ffn, vocab int) Decoder {
	return Decoder{Name: name, Vocab: vocab, Hidden: hidden, Layers: []Run{{layers, Layer{
		Attention: Attention{Heads: heads, KVHeads: kv, HeadDim: hidden / heads}, MLP: gated(ffn), Norms: 2,
	}}}}
}

// sparse turns every layer of a model into experts.
func sparse(d Decoder, experts, topK, width int) Decoder {
	for i := range d.Layers {
		d.Layers[i].MLP = MLP{}
		d.Layers[i].Experts = &Experts{Count: experts, TopK: topK, Each: gated(width)}
	}
	return d
}

// gpt is the shape of GPT-2 and GPT-3: LayerNorm, biases, MLP of four times the width.
func gpt(name string, layers, hidden, heads, vocab, positions int, tied bool) Decoder {
	return Decoder{Name: name, Vocab: vocab, Hidden: hidden, Positions: positions, Tied: tied, NormBias: true, Layers: []Run{{layers, Layer{
		Attention: Attention{Heads: heads, KVHeads: heads, HeadDim: hidden / heads, InBias: true, OutBias: true},
		MLP:       MLP{Width: 4 * hidden, Bias: true}, Norms: 2,
	}}}}
}

func mixtral8x7B() Decoder {
	return sparse(llama("mixtral-8x7b", 32, 4096, 32, 8, 0, 32000), 8, 2, 14336)
}

func qwen3x30B() Decoder {
	d := sparse(llama("qwen3-30b-a3b", 48, 2048, 32, 4, 0, 151936), 128, 8, 768)
	d.Layers[0].Attention.HeadDim, d.Layers[0].Attention.QKNorm = 128, HeadQKNorm
	return d
}

func olmoe() Decoder {
	d := sparse(llama("olmoe-1b-7b", 16, 2048, 16, 16, 0, 50304), 64, 8, 1024)
	d.Layers[0].Attention.QKNorm = WidthQKNorm
	return d
}

// deepSeek is the shape of DeepSeek-V2 and V3.
func deepSeek(name string, layers, hidden, heads, queryRank, dense, ffn, experts, topK, width, shared, vocab int) Decoder {
	a := Attention{Heads: heads, Latent: &Latent{QueryRank: queryRank, KVRank: 512, Nope: 128, Rope: 64, Value: 128}}
	return Decoder{Name: name, Vocab: vocab, Hidden: hidden, Layers: []Run{
		{dense, Layer{Attention: a, MLP: gated(ffn), Norms: 2}},
		{layers - dense, Layer{Attention: a, Norms: 2, Experts: &Experts{Count: experts, TopK: topK, Each: gated(width), Shared: gated(shared * width)}}},
	}}
}

func deepSeekV3() Decoder {
	d := deepSeek("deepseek-v3", 61, 7168, 128, 1536, 3, 18432, 256, 8, 2048, 1, 129280)
	d.Layers[1].Experts.Correction, d.MTP = true, 1
	return d
}

// gptOSS is gpt-oss-120b: biases everywhere, sinks, every other layer with a window.
func gptOSS() Decoder {
	expert := MLP{Width: 2880, Gated: true, Bias: true}
	wide := Layer{
		Attention: Attention{Heads: 64, KVHeads: 8, HeadDim: 64, InBias: true, OutBias: true, Sinks: true},
		Experts:   &Experts{Count: 128, TopK: 4, Each: expert, RouterBias: true}, Norms: 2,
	}
	d := Decoder{Name: "gpt-oss-120b", Vocab: 201088, Hidden: 2880}
	for i := range 36 {
		layer := wide
		if i%2 == 0 {
			layer.Attention.Window = 128
		}
		d.Layers = append(d.Layers, Run{1, layer})
	}
	return d
}
