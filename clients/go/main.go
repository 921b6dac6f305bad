// Where do two cuts of a video differ? Asked over native gRPC.
//
// usage: sage-diff OLD.mp4 NEW.mp4      SAGE_ADDRESS: the gateway, localhost:8080 where it is not set
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"sage/gen/google/api"
	compare "sage/gen/sage/compare/v1"
	embed "sage/gen/sage/embed/v1"
	ingest "sage/gen/sage/ingest/v1"
)

const chunkBytes = 512 * 1024

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: sage-diff OLD.mp4 NEW.mp4")
	}
	if err := diff(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func diff(ctx context.Context, old, new string) error {
	address := "localhost:8080"
	if value := os.Getenv("SAGE_ADDRESS"); value != "" {
		address = value
	}
	if token := os.Getenv("SAGE_TOKEN"); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()

	ids := make([]string, 2)
	for i, path := range []string{old, new} {
		videoID, err := upload(ctx, ingest.NewIngestServiceClient(connection), path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if ids[i], err = embedVideo(ctx, embed.NewEmbedServiceClient(connection), videoID); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}

	answer, err := compare.NewCompareServiceClient(connection).CompareEmbeddings(ctx,
		&compare.CompareEmbeddingsRequest{EmbeddingIdA: ids[0], EmbeddingIdB: ids[1]})
	if err != nil {
		return err
	}
	for _, difference := range answer.GetDifferences() {
		kind := strings.TrimPrefix(difference.GetKind().String(), "DIFFERENCE_KIND_")
		fmt.Println(kind, span(difference.GetA()), span(difference.GetB()))
	}
	fmt.Printf("similar %.1f %%\n", answer.GetSimilarityPercent())
	return nil
}

func upload(ctx context.Context, videos ingest.IngestServiceClient, path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	size := info.Size()

	stream, err := videos.UploadVideo(ctx)
	if err != nil {
		return "", err
	}
	spec := &ingest.VideoSpec{Filename: filepath.Base(path), ContentType: "video/mp4", SizeBytes: &size}
	message := &ingest.UploadVideoRequest{Spec: spec}
	buffer := make([]byte, chunkBytes)
	for {
		// io.EOF: the server has ended the call; what it has to say comes with CloseAndRecv.
		if err := stream.Send(message); err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
		n, err := io.ReadFull(file, buffer)
		if n == 0 && err == io.EOF {
			break
		} else if n == 0 {
			return "", err
		}
		message = &ingest.UploadVideoRequest{Content: &api.HttpBody{Data: buffer[:n]}}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return "", err
	}
	return answer.GetVideo().GetId(), nil
}

func embedVideo(ctx context.Context, embeddings embed.EmbedServiceClient, videoID string) (string, error) {
	created, err := embeddings.CreateEmbedding(ctx, &embed.CreateEmbeddingRequest{VideoId: videoID})
	if err != nil {
		return "", err
	}
	id := created.GetEmbedding().GetId()
	changes, err := embeddings.WatchEmbedding(ctx, &embed.WatchEmbeddingRequest{EmbeddingId: id})
	if err != nil {
		return "", err
	}
	for {
		change, err := changes.Recv()
		if err != nil {
			return "", err
		}
		if change.GetHeartbeat() {
			continue
		}
		now := change.GetEmbedding()
		log.Printf("%s: %.0f %% %s", videoID, 100*now.GetProgress().GetFraction(), now.GetProgress().GetMessage())
		if !change.GetLast() {
			continue
		}
		if now.GetState() != embed.EmbeddingState_EMBEDDING_STATE_COMPLETED {
			return "", fmt.Errorf("%s: %s", now.GetState(), now.GetFailure().GetMessage())
		}
		return id, nil
	}
}

func span(side *compare.TimeRange) string {
	if side == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f-%.2f", side.GetStartSeconds(), side.GetEndSeconds())
}
