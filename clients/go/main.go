// Command sage-diff shows where two cuts of a video differ, over native gRPC.
//
// usage: sage-diff OLD.mp4 NEW.mp4
//
// SAGE_ADDRESS is the gateway (default: localhost:8080), SAGE_TOKEN the token if the server requires one.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

	// Clip by clip at equal times. Mode ALIGNED, the default, also needs the fingerprints of both videos.
	comparison, err := compare.NewCompareServiceClient(connection).CompareEmbeddings(ctx,
		&compare.CompareEmbeddingsRequest{
			EmbeddingIdA: ids[0], EmbeddingIdB: ids[1], Mode: compare.CompareMode_COMPARE_MODE_TIME,
		})
	if err != nil {
		return err
	}
	visual := comparison.GetTracks()[0] // the only one, because the request names no others
	for _, difference := range visual.GetTime().GetDifferences() {
		kind := strings.TrimPrefix(difference.GetKind().String(), "DIFFERENCE_KIND_")
		fmt.Println(kind, seconds(difference.GetA()), seconds(difference.GetB()))
	}
	for _, found := range comparison.GetMediaDifferences() {
		kind := strings.TrimPrefix(found.GetKind().String(), "MEDIA_DIFFERENCE_KIND_")
		fmt.Println(kind, found.GetA(), found.GetB())
	}
	fmt.Printf("picture similar %.1f %%\n", visual.GetSimilarityPercent())
	for _, part := range comparison.GetNotCompared() {
		reason := strings.TrimPrefix(part.GetReason().String(), "NOT_COMPARED_REASON_")
		fmt.Printf("not compared: %s, %s\n", part.GetTrack(), reason)
	}
	return nil
}

// upload returns the ID of the video with the file's bytes, uploading them unless SAGE has them already.
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

	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	stored, err := videos.ListVideos(ctx, &ingest.ListVideosRequest{Sha256: sum, PageSize: 1})
	if err != nil {
		return "", err
	}
	if len(stored.GetVideos()) > 0 {
		return stored.GetVideos()[0].GetId(), nil
	}

	stream, err := videos.UploadVideo(ctx)
	if err != nil {
		return "", err
	}
	spec := &ingest.VideoSpec{Filename: filepath.Base(path), ContentType: "video/mp4", SizeBytes: &size, Sha256: sum}
	message := &ingest.UploadVideoRequest{Spec: spec}
	buffer := make([]byte, chunkBytes)
	for {
		// io.EOF: the server has ended the call. CloseAndRecv returns its result or error.
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
	response, err := stream.CloseAndRecv()
	if err != nil {
		return "", err
	}
	return response.GetVideo().GetId(), nil
}

// embedVideo returns the ID of the video's embedding once it is completed. SAGE reuses the one that exists, if any.
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
		if err == io.EOF {
			return "", fmt.Errorf("The watch of %s was cut off. Run this again: it continues.", id)
		}
		if err != nil {
			return "", err
		}
		now := change.GetEmbedding()
		if now == nil { // a heartbeat
			continue
		}
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

// seconds returns a range as text.
func seconds(side *compare.FrameRange) string {
	if side == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f-%.2f", side.GetStartSeconds(), side.GetEndSeconds())
}
